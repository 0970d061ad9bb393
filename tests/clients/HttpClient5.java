import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Paths;
import org.apache.hc.client5.http.auth.AuthScope;
import org.apache.hc.client5.http.auth.UsernamePasswordCredentials;
import org.apache.hc.client5.http.classic.methods.HttpPost;
import org.apache.hc.client5.http.impl.auth.BasicCredentialsProvider;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.client5.http.protocol.HttpClientContext;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.entity.ByteArrayEntity;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.util.VersionInfo;

/** Apache HttpClient 5, one context: HttpClient5 URL USER PASSWORD FILE. */
public class HttpClient5 {
    public static void main(String[] args) throws Exception {
        ClassLoader loader = HttpClient5.class.getClassLoader();
        System.out.println(VersionInfo.loadVersionInfo("org.apache.hc.client5", loader).getRelease());
        URI url = URI.create(args[0]);
        BasicCredentialsProvider known = new BasicCredentialsProvider();
        known.setCredentials(
            new AuthScope(url.getHost(), url.getPort()),
            new UsernamePasswordCredentials(args[1], args[2].toCharArray()));
        HttpClientContext context = HttpClientContext.create();
        try (CloseableHttpClient client = HttpClients.custom().setDefaultCredentialsProvider(known).build()) {
            for (int i = 0; i < 2; i++) {
                HttpPost post = new HttpPost(url);
                post.setEntity(new ByteArrayEntity(Files.readAllBytes(Paths.get(args[3])), ContentType.TEXT_XML));
                int status = client.execute(post, context, answer -> {
                    EntityUtils.consume(answer.getEntity());
                    return answer.getCode();
                });
                if (status != 200) {
                    throw new IllegalStateException("answered " + status);
                }
            }
        }
    }
}
