package retry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/prefetch"
)

// A response that is given up is read to its end, so that its connection can
// be used again, but only so far and so long.
const (
	maxDrainBytes = 64 << 10
	maxDrainTime  = 50 * time.Millisecond
)

var errGivenUp = errors.New("retry: the response was given up for another attempt")

// A kept response is one that was given up: if the next attempt is never sent,
// it is still what the caller gets.
type kept struct {
	response *http.Response
	drained  chan struct{} // closed when as much of the body was read as is going to be
	content  []byte        // valid once drained is closed
	end      error         // what the body ended with, valid likewise
	whole    bool          // content is all there was
}

// keep drains the response's body in the background and then closes it.
func keep(response *http.Response, attempt *call.Attempt) *kept {
	k := &kept{response: response, drained: make(chan struct{})}
	if response.Body == http.NoBody {
		k.whole = true
		close(k.drained)
		attempt.Cancel(errGivenUp)
	} else {
		go k.drain(attempt)
	}
	return k
}

// drain reads the body, and then closes it, which may be slow. A body that
// panics broke off: nobody is here to be told more.
func (k *kept) drain(attempt *call.Attempt) {
	defer func() { _ = recover() }()
	body := prefetch.New(k.response.Body, attempt)
	defer func() { _ = body.Close() }()
	defer attempt.Cancel(errGivenUp)
	defer close(k.drained)
	err := body.Fill(maxDrainBytes+1, k.response.ContentLength, maxDrainTime, nil)
	k.content = body.Prefetched()
	k.end, k.whole = err, err != nil && len(k.content) <= maxDrainBytes
}

// take returns the response with its body as it was, or nil if it did not fit.
func (k *kept) take() *http.Response {
	if k == nil {
		return nil
	}
	<-k.drained
	if !k.whole {
		return nil
	}
	k.response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(k.content), endOfBody{k.end}))
	return k.response
}

// An endOfBody ends a body that was kept as it ended before: half an answer is
// not to pass for a whole one.
type endOfBody struct{ err error }

func (e endOfBody) Read([]byte) (int, error) { return 0, e.err }
