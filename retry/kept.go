package retry

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/prefetch"
)

// A response that is given up is read to its end, so that its connection can
// be used again. An endless or slow body is worth less than a new connection,
// so that there is an end to that.
const (
	maxDrainBytes = 64 << 10
	maxDrainTime  = 50 * time.Millisecond
)

var errGivenUp = errors.New("retry: the response was given up for another attempt")

// A kept is a response that was given up. If the next attempt is never sent, the
// caller gets it all the same.
type kept struct {
	response *http.Response
	drained  chan struct{} // closed when as much of the body was read as is going to be
	content  []byte        // valid once drained is closed
	end      error         // what the body ended with, valid likewise
	whole    bool          // content is all there was
}

// keep drains the response's body in the background and then closes it. The drain
// falls into the backoff, so that it delays nothing. The attempt is canceled after it:
// net/http cuts the body of a request whose context has ended.
func keep(response *http.Response, attempt *call.Attempt) *kept {
	k := &kept{response: response, drained: make(chan struct{})}
	if response.Body == http.NoBody {
		k.end, k.whole = io.EOF, true
		close(k.drained)
		attempt.Cancel(errGivenUp)
	} else {
		go k.drain(attempt)
	}
	return k
}

// drain reads the body, and then closes it, which may be slow. A body that
// panics has broken off: on this goroutine no caller could catch the panic, and it
// would end the process.
func (k *kept) drain(attempt *call.Attempt) {
	defer func() { _ = recover() }()
	body := prefetch.New(k.response.Body, attempt)
	defer func() { _ = body.Close() }()
	defer attempt.Cancel(errGivenUp)
	defer close(k.drained)
	// One byte more than is kept shows whether there is more.
	err := body.Fill(maxDrainBytes+1, k.response.ContentLength, maxDrainTime, nil)
	k.content = body.Prefetched()
	k.end, k.whole = err, err != nil && len(k.content) <= maxDrainBytes
}

// take returns the response with its body as it was. It returns nil if there is
// none, or if the body did not fit: half of one would be of no use. It waits for the
// drain, which has a time limit of its own.
func (k *kept) take() *http.Response {
	if k == nil {
		return nil
	}
	<-k.drained
	if !k.whole {
		return nil
	}
	k.response.Body = &keptBody{rest: k.content, end: k.end}
	return k.response
}

// A keptBody is the body of a response that was kept. It ends as it ended before:
// half an answer is not to pass for a whole one.
type keptBody struct {
	rest   []byte
	end    error
	closed atomic.Bool
}

// Read returns what was kept, and then what the body ended with.
func (b *keptBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(b.rest) == 0 {
		return 0, b.end
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close ends the reading. The source was closed by drain.
func (b *keptBody) Close() error {
	b.closed.Store(true)
	return nil
}
