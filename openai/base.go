package openai

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
)

// BaseTransport returns a new http.Transport tuned for calls to a model
// provider: many of them to one host, some of which last for minutes. Unlike
// http.DefaultTransport it keeps 256 idle connections a host, notices a dead
// HTTP/2 connection by pings within 45 s, and bounds dialling and the TLS
// handshake at 10 s each. There is no limit on the time to the response's
// headers: a model may think. A proxy that asks for credentials is told from a
// lost connection, so that the call is not repeated. The caller owns it.
func BaseTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: recogniseProxyAuth,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		// A provider's headers are small; what is larger is no answer of one.
		MaxResponseHeaderBytes: 1 << 20,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     15 * time.Second,
		},
	}
}

// recogniseProxyAuth gives a type to the one refusal of a proxy that no attempt
// mends; net/http would return the text of its status.
func recogniseProxyAuth(_ context.Context, proxy *url.URL, _ *http.Request, response *http.Response) error {
	if response.StatusCode == http.StatusProxyAuthRequired {
		return &fault.ProxyAuthError{Proxy: proxy.Host}
	}
	return nil
}
