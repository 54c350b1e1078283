package retry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// This file says what an error of the base means. Errors are recognised by
// their types alone: texts change between versions of Go.

// isCanceled reports whether Request.Cancel ended the request.
func isCanceled(req *http.Request) bool {
	select {
	case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
		return true
	default:
		return false
	}
}

// isOurTimeout reports whether a time limit of this module ended the attempt, and not
// the caller's deadline.
func isOurTimeout(err error) bool {
	var limit *fault.TimeLimitError
	return errors.As(err, &limit)
}

// isSilence reports whether the server was reached but did not answer in
// time. Such a request may be at work, and may be billed. A timeout that is
// no context.DeadlineExceeded comes from the TLS handshake, before anything
// was sent, unless it is a read's.
func isSilence(err error) bool {
	if isDial(err) {
		return false
	}
	var op *net.OpError
	return isOurTimeout(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &op) && op.Timeout()
}

// isDial reports whether there was no connection yet: a timeout there is not
// the silence of a server. The words of Op are those of net and net/http.
func isDial(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "socks connect") || errors.As(err, &dns)
}

// isPermanent reports whether the next attempt would fail the same way: a
// name that does not exist, a certificate that is not trusted, an address
// that can't be parsed. To repeat those would only hide a mistake of the configuration
// behind seconds of waiting.
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
// certificate, version or name than it got.
func isAlert(err error) bool {
	var op *net.OpError
	var quic tls.AlertError
	return errors.As(err, &op) && op.Op == "remote error" || errors.As(err, &quic)
}

// isRejected reports whether a layer below refused the attempt that ended
// with err. Transports may be nested: what was refused in the midst of a call
// of one below has used up that call, and is no refusal of it.
func isRejected(err error) bool { return fault.IsRejection(err) && !begunBelow(err) }

// begunBelow reports whether err ended a call of a Transport below that has
// sent something, or that waited until its context was over. Such a call must not be
// taken for one that reached no server.
func begunBelow(err error) bool {
	var below *Error
	return errors.As(err, &below) && (below.Attempts > 0 || below.Cause != nil)
}
