import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Paths;
import org.apache.http.auth.AuthScope;
import org.apache.http.auth.UsernamePasswordCredentials;
import org.apache.http.client.methods.CloseableHttpResponse;
import org.apache.http.client.methods.HttpPost;
import org.apache.http.client.protocol.HttpClientContext;
import org.apache.http.entity.ByteArrayEntity;
import org.apache.http.entity.ContentType;
import org.apache.http.impl.client.BasicCredentialsProvider;
import org.apache.http.impl.client.CloseableHttpClient;
import org.apache.http.impl.client.HttpClients;
import org.apache.http.util.EntityUtils;
import org.apache.http.util.VersionInfo;

/** Apache HttpClient 4, one context: HttpClient4 URL USER PASSWORD FILE. */
public class HttpClient4 {
    public static void main(String[] args) throws Exception {
        ClassLoader loader = HttpClient4.class.getClassLoader();
        System.out.println(VersionInfo.loadVersionInfo("org.apache.http.client", loader).getRelease());
        URI url = URI.create(args[0]);
        BasicCredentialsProvider known = new BasicCredentialsProvider();
        known.setCredentials(
            new AuthScope(url.getHost(), url.getPort()), new UsernamePasswordCredentials(args[1], args[2]));
        HttpClientContext context = HttpClientContext.create();
        try (CloseableHttpClient client = HttpClients.custom().setDefaultCredentialsProvider(known).build()) {
            for (int i = 0; i < 2; i++) {
                HttpPost post = new HttpPost(url);
                post.setEntity(new ByteArrayEntity(Files.readAllBytes(Paths.get(args[3])), ContentType.TEXT_XML));
                try (CloseableHttpResponse answer = client.execute(post, context)) {
                    EntityUtils.consume(answer.getEntity());
                    if (answer.getStatusLine().getStatusCode() != 200) {
                        throw new IllegalStateException(answer.getStatusLine().toString());
                    }
                }
            }
        }
    }
}
