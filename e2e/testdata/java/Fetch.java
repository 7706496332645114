import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import javax.net.ssl.HttpsURLConnection;

/** Fetches a URL with both of Java's clients and prints what each got. */
class Fetch {
    public static void main(String[] args) throws Exception {
        var uri = URI.create(args[0]);
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var response = client.send(HttpRequest.newBuilder(uri).build(), BodyHandlers.ofString());
        System.out.print(response.statusCode() + " " + response.body());
        var old = (HttpsURLConnection) uri.toURL().openConnection();
        System.out.print(old.getResponseCode() + " " + new String(old.getInputStream().readAllBytes()));
    }
}
