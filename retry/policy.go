package retry

import (
	"net/http"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// IsRetryableStatus reports whether a response of this status may be followed
// by a better one: exactly 408, 429, 500, 502, 503 and 504 (RFC 9110, section 15, and
// RFC 6585 for 429). A 501 and a 505 are not among them, because the server can't do
// what was asked, now or later.
func IsRetryableStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// DefaultPolicy is what a nil [Config.Policy] stands for. A Policy of one's
// own may call it for all that it does not decide itself.
//
// It retries the statuses of [IsRetryableStatus], after the wait that the
// server asks for or else after a backoff, and errors of the connection. An
// Err that Inspect set beside a Response is retried. It does not retry
// silence (a timeout while waiting for headers), because that multiplies the
// wait and may be billed twice. Nor does it retry what another attempt can't
// mend: certificates, TLS alerts, a proxy that asks BaseTransport of package
// openai for credentials, malformed requests, the end of the request's context.
func DefaultPolicy(a *Attempt) Decision {
	if a.Response == nil {
		return errorDecision(a)
	}
	if a.Err != nil {
		return AfterBackoff(ReasonBrokenBody)
	}
	reason, ok := statusReason(a.Response.StatusCode)
	if !ok {
		return Stop(NotRetryable)
	}
	if wait, ok := a.Hint(); ok {
		return After(wait, reason)
	}
	return AfterBackoff(reason)
}

// statusReason returns the reason for which a status is retried, and whether it is. The
// words are those of the metrics, where they show what kind of trouble a server is in.
func statusReason(code int) (Reason, bool) {
	switch code {
	case http.StatusTooManyRequests:
		return ReasonRateLimited, true
	case http.StatusServiceUnavailable:
		return ReasonOverloaded, true
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return ReasonTimeout, true
	default:
		return ReasonServerError, IsRetryableStatus(code)
	}
}

// errorDecision is that for an attempt without a response. A rejection gets
// here only out of a call of a Transport below, which has retried already.
func errorDecision(a *Attempt) Decision {
	switch {
	case fault.IsRejection(a.Err),
		a.Request.Context().Err() != nil, isCanceled(a.Request),
		isSilence(a.Err), isPermanent(a.Err), roundtrip.IsMalformed(a.Request):
		return Stop(NotRetryable)
	}
	return AfterBackoff(ReasonConnection)
}
