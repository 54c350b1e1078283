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

// BaseTransport returns a new [http.Transport] that is tuned for calls to a model
// provider: many calls to one host, some of which last for minutes. It differs from
// [http.DefaultTransport] in these points. It keeps 256 idle connections for each
// host, where net/http keeps two. It notices a dead HTTP/2 connection by pings
// within 45 s. It bounds dialling and the TLS handshake at 10 s each. It reports a
// proxy that asks for credentials as an error of its own, so that the call is not
// repeated as after a lost connection.
//
// There is no limit on the time to the response's headers, because a model may think
// for long. The caller owns the result and may change it before its first use.
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
		// A provider's headers are small. Anything larger is no answer of a
		// provider.
		MaxResponseHeaderBytes: 1 << 20,
		// A stream may be silent for minutes while a model thinks, so silence alone
		// does not show that a connection is dead.
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     15 * time.Second,
		},
	}
}

// recogniseProxyAuth gives a type to the one refusal of a proxy that no attempt can
// change. For other refusals net/http returns an error that holds nothing but the
// text of the status.
func recogniseProxyAuth(_ context.Context, proxy *url.URL, _ *http.Request, response *http.Response) error {
	if response.StatusCode == http.StatusProxyAuthRequired {
		return &fault.ProxyAuthError{Proxy: proxy.Host}
	}
	return nil
}
