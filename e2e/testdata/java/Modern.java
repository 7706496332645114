import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.stream.IntStream;

/** Fetches with HTTP/2, several at once, or speaks a WebSocket. */
class Modern {
    public static void main(String[] args) throws Exception {
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).build();
        if (args[0].startsWith("ws")) {
            talk(client, args[0] + "/ws");
            return;
        }
        var post = HttpRequest.newBuilder(URI.create(args[0] + "/echo")).POST(BodyPublishers.ofString("x".repeat(40000))).build();
        var echo = client.send(post, BodyHandlers.ofString());
        if (echo.body().length() != 40000) throw new Exception("echo of " + echo.body().length());
        var all = IntStream.range(0, 10).mapToObj(i -> client
            .sendAsync(HttpRequest.newBuilder(URI.create(args[0] + "/bytes/" + i * 5000)).build(), BodyHandlers.ofByteArray())
            .thenAccept(r -> { if (r.body().length != i * 5000) throw new RuntimeException("bytes"); })).toArray(CompletableFuture[]::new);
        CompletableFuture.allOf(all).join();
        System.out.print(echo.version());
    }

    static void talk(HttpClient client, String url) throws Exception {
        var got = new CompletableFuture<String>();
        var ws = client.newWebSocketBuilder().buildAsync(URI.create(url), new WebSocket.Listener() {
            final StringBuilder text = new StringBuilder();

            @Override public CompletionStage<?> onText(WebSocket ws, CharSequence data, boolean last) {
                text.append(data);
                if (last) got.complete(text.toString());
                ws.request(1);
                return null;
            }
        }).join();
        ws.sendPing(ByteBuffer.wrap("ping".getBytes())).join();
        ws.sendText("in two ", false).join();
        ws.sendText("fragments", true).join();
        System.out.print(got.get());
        ws.sendClose(WebSocket.NORMAL_CLOSURE, "done").join();
    }
}
