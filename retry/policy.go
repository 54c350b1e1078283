package retry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/hint"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// An Attempt is one request that was sent, and what came of it.
type Attempt struct {
	Number   int            // 1 is the first
	Request  *http.Request  // as it was sent; not to be changed
	Response *http.Response // nil if there was none
	Err      error          // why there is no Response, or what Inspect found wrong with it

	// NotSent reports that the request was certainly never written to the
	// server: a breaker refused it, or net/http looked for a connection and got
	// none. False means unknown. Of a base that makes connections by other means
	// nothing is known, nor of the first attempt at a request, unless
	// Config.Repeatable is asked about it or there is an AttemptTimeout: what
	// net/http does is not watched for nothing.
	NotSent bool

	// Safe is what Config.Safe said of the request.
	Safe bool

	// Repeatable says that another attempt is possible at all, whatever Policy
	// may say: the call may be repeated, its payload can be sent again, and the
	// call has more than one attempt. It is set for Inspect, which need not hold
	// any other response to see whether it is worth another attempt.
	Repeatable bool
}

// Hint returns the wait that the response's headers ask for: the first of
// retry-after-ms, x-ms-retry-after-ms and Retry-After that can be read.
func (a *Attempt) Hint() (wait time.Duration, ok bool) {
	if a.Response == nil {
		return 0, false
	}
	return hint.FromHeader(a.Response.Header, time.Now())
}

// errorType returns the error.type of the attempt, "" if it succeeded.
func (a *Attempt) errorType() string {
	if a.Err != nil {
		return fault.Type(a.Err)
	}
	return fault.StatusType(a.Response.StatusCode)
}

// failure returns what went wrong as an error.
func (a *Attempt) failure() error {
	if a.Err != nil {
		return a.Err
	}
	return statusError(a.Response.StatusCode)
}

// A Policy decides what follows an attempt. It must be safe for concurrent
// use, and leave the response's body alone: that is for Config.Inspect.
type Policy func(*Attempt) Decision

// A Decision says what follows an attempt. The zero value is Stop(NotRetryable).
type Decision struct {
	action action
	reason Reason
	after  time.Duration
	most   time.Duration // of a backoff; 0 if there is no bound
	below  bool          // the wait is that of a layer below
}

type action int

const (
	stop action = iota
	afterBackoff
	afterHint
)

// Stop ends the call: the caller gets what the attempt brought. The reason is
// NotRetryable if there was nothing to be retried, else why a retryable
// failure goes to the caller all the same.
func Stop(reason Reason) Decision { return Decision{action: stop, reason: reason} }

// AfterBackoff asks for another attempt after the wait that Config.Backoff
// makes.
func AfterBackoff(reason Reason) Decision { return Decision{action: afterBackoff, reason: reason} }

// After asks for another attempt no sooner than after d, as the server
// wishes; 0 is at once. Up to a quarter of d, at most 10 s, is added at
// random, so that callers who were told the same don't return together.
func After(d time.Duration, reason Reason) Decision {
	return Decision{action: afterHint, reason: reason, after: hint.Clamp(d)}
}

// AtMost bounds the wait of an AfterBackoff, where the server says that more is
// of no use. 0 and less is no bound.
func (d Decision) AtMost(most time.Duration) Decision {
	d.most = max(most, 0)
	return d
}

// Below says that a layer below holds the next attempt back for as long as the
// server wishes: what d waits for bounds the call as ever, but is not waited for
// here.
func (d Decision) Below() Decision {
	d.below = true
	return d
}

// A Reason says in one word why a call is retried or ends. Use the constants:
// it becomes a metric's attribute, and other values count as "_OTHER".
type Reason string

// Reasons for another attempt.
const (
	ReasonRateLimited   Reason = "rate_limited"   // 429
	ReasonServerError   Reason = "server_error"   // 500, 502
	ReasonOverloaded    Reason = "overloaded"     // 503, 529
	ReasonTimeout       Reason = "timeout"        // 408, 504
	ReasonConnection    Reason = "connection"     // no connection, or a lost one
	ReasonBrokenBody    Reason = "broken_body"    // the answer was cut or no JSON
	ReasonStreamError   Reason = "stream_error"   // a stream failed before it brought anything
	ReasonServerSaysYes Reason = "server_says_so" // x-should-retry: true
)

// Reasons to stop.
const (
	NotRetryable      Reason = ""               // success, or a failure that repeating doesn't mend
	StopAttempts      Reason = "attempts"       // MaxAttempts are sent
	StopBudget        Reason = "budget"         // the Budget is empty
	StopDeadline      Reason = "deadline"       // the wait would pass the context's deadline or MaxElapsed
	StopHintTooLong   Reason = "hint_too_long"  // the server asks for more than MaxRetryAfter
	StopNotReplayable Reason = "not_replayable" // not Safe, or a payload too large to keep
	StopRejected      Reason = "rejected"       // a breaker refused the next attempt
	StopServerSaysNo  Reason = "server_says_no" // x-should-retry: false, or a quota is used up
	StopPolicy        Reason = "policy"         // the Policy or the Backoff ends it
)

// IsRetryableStatus reports whether a response of this status may be followed
// by a better one: exactly 408, 429, 500, 502, 503 and 504.
func IsRetryableStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// DefaultPolicy retries the statuses of IsRetryableStatus, after the wait that
// the server asks for or else after a backoff, and errors of the connection.
// It does not retry silence (a timeout while waiting for headers), nor what
// another attempt can't mend: certificates, TLS alerts, a proxy that asks
// BaseTransport of package openai for credentials, malformed requests, the end
// of the request's context. An Err that Inspect set beside a Response is retried.
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

func errorDecision(a *Attempt) Decision {
	refused := fault.IsRejection(a.Err) // in a call of a Transport below, which has given up
	if refused || a.Request.Context().Err() != nil || isCanceled(a.Request) || isSilence(a.Err) || isPermanent(a.Err) || roundtrip.IsMalformed(a.Request) {
		return Stop(NotRetryable)
	}
	return AfterBackoff(ReasonConnection)
}

// isCanceled reports whether Request.Cancel ended the request.
func isCanceled(req *http.Request) bool {
	select {
	case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
		return true
	default:
		return false
	}
}

func isOurTimeout(err error) bool {
	var limit *fault.TimeLimitError
	return errors.As(err, &limit)
}

// isSilence reports whether the server was reached but did not answer in
// time. A timeout that is no context.DeadlineExceeded comes from the TLS
// handshake, before anything was sent, unless it is a read's.
func isSilence(err error) bool {
	if isDial(err) {
		return false
	}
	var op *net.OpError
	return isOurTimeout(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &op) && op.Timeout()
}

func isDial(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "socks connect") || errors.As(err, &dns)
}

// isPermanent reports whether the next attempt would fail the same way.
func isPermanent(err error) bool {
	var (
		dns         *net.DNSError
		cert        *tls.CertificateVerificationError
		unknownCA   x509.UnknownAuthorityError
		wrongHost   x509.HostnameError
		invalid     x509.CertificateInvalidError
		notTLS      tls.RecordHeaderError
		unparsable  *url.Error
		invalidAddr *net.AddrError
		proxy       *fault.ProxyAuthError
	)
	switch {
	case errors.As(err, &dns):
		return !dns.IsTemporary && !dns.IsTimeout
	case errors.As(err, &cert), errors.As(err, &unknownCA), errors.As(err, &wrongHost), errors.As(err, &invalid),
		errors.As(err, &notTLS), errors.As(err, &invalidAddr), errors.Is(err, http.ErrSchemeMismatch),
		errors.As(err, &proxy), isAlert(err):
		return true
	case errors.As(err, &unparsable):
		return unparsable.Op == "parse"
	}
	return errors.Is(err, roundtrip.ErrNoResponse)
}

// isAlert reports whether the server ended the TLS handshake, or the connection
// at its beginning, with an alert (RFC 8446, section 6.2): it wants another
// certificate, version or name than it was given.
func isAlert(err error) bool {
	var op *net.OpError
	var quic tls.AlertError
	return errors.As(err, &op) && op.Op == "remote error" || errors.As(err, &quic)
}

// isRejected reports whether a layer below refused the attempt that ended with
// err. What was refused in the midst of a call of a Transport below is no
// refusal of that call.
func isRejected(err error) bool { return fault.IsRejection(err) && !begunBelow(err) }

// begunBelow reports whether err ended a call of a Transport below that has
// sent something, or that waited until its context was over.
func begunBelow(err error) bool {
	var below *Error
	return errors.As(err, &below) && (below.Attempts > 0 || below.Cause != nil)
}
