"""The HTTP side: the Flask application, gunicorn's settings and worker, and the processes of ``faxhook serve``."""
