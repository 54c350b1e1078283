package openai

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/json"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

const (
	// maxErrorBytes is how much of an error's body is read. Codes stand at its
	// beginning. What may be longer is a message, or the page of a proxy.
	maxErrorBytes = 8 << 10

	// maxErrorWait bounds the wait for an error's body: it is read for its code
	// only, which most errors don't need. The body comes with the headers as a rule,
	// and without it the status decides alone.
	maxErrorWait = 250 * time.Millisecond
)

// An errorAnswer is what came with an error status. Its body is looked into
// once, by the first layer that asks what the attempt is worth, and is put back
// so that it can be read from its first byte.
type errorAnswer struct {
	response *http.Response
	attempt  prefetch.Canceler

	// routed says that another target may take the call, so that the codes of a refusal
	// matter as well: they say whether the request or the account was refused.
	routed bool

	looked bool // the verdict is made
	said   apiError
	worth  verdict
}

// verdict returns what the attempt is worth. It needs no lock, because the layers of one
// attempt ask one after the other, on the call's goroutine.
func (e *errorAnswer) verdict() verdict {
	if !e.looked {
		e.looked = true
		e.said = e.codes()
		e.worth = errorVerdict(e.response.StatusCode, e.said)
	}
	return e.worth
}

// codes returns the codes in the body, if they could change anything. What was read is
// put before the rest of the body, so that the caller gets all of it.
func (e *errorAnswer) codes() apiError {
	if !worthPeeking(e.response, e.routed) {
		return apiError{}
	}
	body := prefetch.New(e.response.Body, e.attempt)
	e.response.Body = body
	var peeked errorBody
	_ = body.Fill(maxErrorBytes, e.response.ContentLength, maxErrorWait, &peeked) // its end is its reader's to see
	return readErrorBody(body.Prefetched())
}

// worthPeeking reports whether a code in the body could change anything. That is so where
// another attempt would follow, which a quota code forbids, or where another target could
// take the call. Every other error goes to the caller without a wait for its body. What
// is compressed is not read: errors are short, so that few servers compress them.
func worthPeeking(response *http.Response, routed bool) bool {
	code := response.StatusCode
	return (routed && code >= http.StatusBadRequest && code <= http.StatusNotFound || statusVerdict(response.StatusCode).reason != "" || adviceOf(response.Header) == retryAdvised) &&
		response.Body != nil && response.Body != http.NoBody && !roundtrip.IsCompressed(response.Header)
}

// An errorBody finds the end of the JSON value that a body is.
type errorBody struct{ scan json.Scanner }

// Enough looks at the next bytes, and reports whether nothing that follows them is
// of interest: the value has ended, or can't be one.
func (b *errorBody) Enough(p []byte) bool {
	b.scan.Feed(p)
	for b.scan.Next() {
	}
	b.scan.Forget()
	return b.scan.Whole() || b.scan.Malformed()
}
