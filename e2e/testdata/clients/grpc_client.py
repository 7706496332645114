# A gRPC client: a unary call, and streams of each kind, plain and gzipped.
import sys, grpc


def messages():
    # Field 1, a string of i*100 bytes.
    for i in range(1, 6):
        n, head = i * 100, b"\x0a"
        while n > 127:
            head += bytes([n & 127 | 128])
            n >>= 7
        yield head + bytes([n]) + b"r" * (i * 100)


def channel(compression):
    if sys.argv[2:]:
        return grpc.insecure_channel(sys.argv[1], compression=compression)
    return grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(), compression=compression)


for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
    with channel(compression) as c:
        one = list(messages())[2]
        assert c.unary_unary("/test.Echo/Unary")(one) == one
        assert list(c.unary_stream("/test.Echo/ServerStream")(one)) == [one] * 5
        assert c.stream_unary("/test.Echo/ClientStream")(messages()) == list(messages())[4]
        assert list(c.stream_stream("/test.Echo/Bidi")(messages())) == list(messages())
