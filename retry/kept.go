package retry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
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
	done     chan struct{} // closed when the body is drained and closed
	over     chan struct{} // closed when the time for that is over

	late     atomic.Bool // the time was over before the body was
	body     []byte      // valid once done is closed
	end      error       // what the body ended with, nil for io.EOF
	complete bool        // body is all there was
}

// keep drains the response's body in the background and then closes it. The
// goroutine ends with the body's pending Read, which cancel ends.
func keep(response *http.Response, cancel context.CancelCauseFunc) *kept {
	k := &kept{response: response, done: make(chan struct{}), over: make(chan struct{})}
	if response.Body == http.NoBody {
		k.complete = true
		close(k.done)
		cancel(errGivenUp)
		return k
	}
	timer := time.AfterFunc(maxDrainTime, func() {
		k.late.Store(true)
		cancel(errGivenUp)
		close(k.over)
	})
	go func() {
		defer close(k.done)
		k.drain()
		timer.Stop()
		cancel(errGivenUp)
	}()
	return k
}

// drain reads the body and closes it, which may be slow too. A body that panics,
// or counts wrongly, broke off: nobody is here to be told more.
func (k *kept) drain() {
	defer func() {
		if recover() != nil {
			k.complete = false
		}
	}()
	defer func() { _ = k.response.Body.Close() }()
	var held bytes.Buffer
	n, err := held.ReadFrom(io.LimitReader(k.response.Body, maxDrainBytes+1))
	k.body = held.Bytes()
	k.end = err
	k.complete = n <= maxDrainBytes && !k.late.Load()
}

// settled waits until the body is drained, or the time for it is over.
func (k *kept) settled() {
	select {
	case <-k.done:
	case <-k.over:
	}
}

// take returns the response with its body as it was, or nil if it did not fit.
func (k *kept) take() *http.Response {
	if k == nil {
		return nil
	}
	k.settled()
	select {
	case <-k.done:
	default:
		return nil
	}
	if !k.complete {
		return nil
	}
	k.response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(k.body), endOfBody{k.end}))
	return k.response
}

// An endOfBody is the end of a body that was kept: half an answer ends in the
// error that it ended in before.
type endOfBody struct{ err error }

func (e endOfBody) Read([]byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return 0, io.EOF
}
