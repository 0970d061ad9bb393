import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.PasswordAuthentication;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Paths;

/** HttpURLConnection: UrlConnection URL USER PASSWORD FILE. */
public class UrlConnection {
    public static void main(String[] args) throws Exception {
        System.out.println(System.getProperty("java.version"));
        Authenticator.setDefault(new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(args[1], args[2].toCharArray());
            }
        });
        byte[] body = Files.readAllBytes(Paths.get(args[3]));
        for (int i = 0; i < 2; i++) {
            HttpURLConnection connection = (HttpURLConnection) new URL(args[0]).openConnection();
            connection.setRequestMethod("POST");
            connection.setDoOutput(true);
            connection.setRequestProperty("Content-Type", "text/xml");
            connection.getOutputStream().write(body);
            if (connection.getResponseCode() != 200) {
                throw new IllegalStateException("answered " + connection.getResponseCode());
            }
            connection.getInputStream().readAllBytes();
        }
    }
}
