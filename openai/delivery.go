package openai

import (
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/retry"
)

// A Delivery says when RoundTrip returns a response. The longer a response is held,
// the more of its failures can be retried before the caller sees anything of them.
//
// A response whose call can't be repeated is returned at its headers under every
// Delivery. So is one that is not known to be a JSON answer or a stream of events.
type Delivery int

const (
	// FromFirstEvent is the zero value. It returns a stream as soon as its first
	// useful event has come, or its end or its failure is certain. A failure until
	// then is retried. A stream that brings none of these is returned after 30 s or
	// 1 MiB; with [Config.Targets] and a FirstEventTimeout it is held for a second
	// longer than that timeout, at most for 2 min. A JSON answer is returned when it
	// is whole, or at 16 MiB. Bytes that come later are passed on at once.
	FromFirstEvent Delivery = iota

	// Immediate returns every response at its headers. Only what fails by then,
	// or by its status, is retried.
	Immediate

	// Whole returns a stream when it has ended. A stream that is cut, stalls or
	// brings an error is then retried as a whole. So is one that breaks off between its
	// finish_reason and [DONE]: its answer is complete, but its reader would get the
	// error of the connection behind it. Whole is for agents and jobs, which have no
	// use for half an answer.
	//
	// Memory is bounded: a stream above 64 MiB, and any stream while the
	// [Transport] holds 512 MiB, is returned as FromFirstEvent would return it. Held
	// bytes count until the reader has read all of them or has closed the body.
	//
	// The stream of a response in the background is not held to its end, because
	// resuming makes it whole: see [ResumeError]. All other answers are held as by
	// FromFirstEvent.
	Whole
)

// String returns the name of d, or "invalid" for a value that has none.
func (d Delivery) String() string {
	switch d {
	case FromFirstEvent:
		return "from_first_event"
	case Immediate:
		return "immediate"
	case Whole:
		return "whole"
	}
	return "invalid"
}

const (
	// maxFirstEvent and maxFirstEventWait bound the hold of a stream without a useful
	// event: one that sends nothing but pings must still reach its caller.
	maxFirstEvent     = 1 << 20
	maxFirstEventWait = 30 * time.Second

	// maxRoutedWait bounds it where the call could still go to another target.
	maxRoutedWait = 2 * time.Minute

	// maxJSON bounds what is held of an answer that is not a stream. A longer one is
	// handed over as it comes.
	maxJSON = 16 << 20

	// maxWhole and maxWholeAll bound what Whole holds: of one stream, and of all
	// streams of a Transport, so that many long streams can't use up the memory.
	maxWhole    = 64 << 20
	maxWholeAll = 512 << 20
)

// A delivery holds responses. It is the Inspect of the retry layer, which lies above
// the breaker: so the bytes that are held pass the breaker's observer, too.
type delivery struct {
	mode  Delivery
	whole prefetch.Quota // shared by all streams of the Transport; safe for concurrent use
}

func newDelivery(cfg *Config) *delivery {
	return &delivery{mode: cfg.Delivery, whole: prefetch.Quota{Limit: maxWholeAll}}
}

// holds returns for how long a stream without a useful event is held. A call that can
// go to another target at the end of its FirstEventTimeout must not have been handed
// over by then, so it is held a second longer than the timeout.
func holds(c *call.Call) time.Duration {
	if o, ok := c.Listener.(*operation); ok && o.patience > 0 {
		return min(o.patience+time.Second, maxRoutedWait)
	}
	return maxFirstEventWait
}

// inspect holds the attempt's response as long as the mode says, and returns what is
// wrong with it. A response that can't be retried isn't held: holding it would delay
// its caller for nothing. A response of a resumed stream isn't held either, because
// its caller has been reading since the first one.
//
// A failure counts only if it came before anything useful. The caller of such a stream
// loses nothing by another attempt. With Whole nothing has been handed over, so that
// every failure counts.
func (d *delivery) inspect(a *retry.Attempt) error {
	ctx := a.Request.Context()
	switch answer := call.From(ctx).Answer.(type) {
	case *errorAnswer:
		answer.verdict() // looks into the body for a code, before Policy decides
	case *answer:
		c := call.From(ctx)
		if d.mode == Immediate || answer.format == nil || answer.isOpaque() || !a.Repeatable || c.Resuming || routingOf(c).hasOneAttempt() {
			return nil
		}
		body := answer.held.Init(a.Response.Body, call.AttemptFrom(ctx))
		a.Response.Body = body
		if d.mode == Whole && resumes(c) {
			d = &delivery{mode: FromFirstEvent} // resuming makes it whole without holding it
		}
		d.hold(body, answer, a.Response.ContentLength, holds(c))
		if err := answer.failed.Load(); err != nil && (d.mode == Whole || answer.early.Load()) {
			return err
		}
	}
	return nil
}

// hold reads the body until the answer may be handed over: a stream at its first
// useful event or after longest, everything else when it is whole. The label says at
// first which of them it is. If the first bytes prove the label wrong, hold goes on
// with the rules for what it really is, so that a stream labelled as JSON is not held
// to its end.
func (d *delivery) hold(body *prefetch.Body, a *answer, size int64, longest time.Duration) {
	a.wanted = wanted{longest: longest, stream: a.sniff.label == eventBody, whole: d.mode == Whole && a.format.isJudged()}
	if d.fill(body, a, size) && a.wasMislabeled() && !a.Enough(nil) {
		d.fill(body, a, size)
	}
}

// fill prefetches by the rules for what the answer is taken for. It reports whether
// the first bytes have said what the answer is, and more bytes may come.
func (d *delivery) fill(body *prefetch.Body, a *answer, size int64) bool {
	var end error
	switch {
	case !a.wanted.stream:
		end = body.Fill(maxJSON, size, 0, a)
	case a.wanted.whole:
		end = d.fillWhole(body, a)
	default:
		end = body.Fill(maxFirstEvent, -1, a.wanted.longest, a)
	}
	return end == nil && a.kindKnown()
}

// fillWhole prefetches a stream to its end. Where there is no room for all of it, it
// goes as far as FromFirstEvent does, which needs so little that it is not counted
// against the quota.
func (d *delivery) fillWhole(body *prefetch.Body, a *answer) error {
	body.Count(&d.whole)
	if end := body.Fill(maxWhole, -1, 0, a); end != nil || a.Enough(nil) {
		return end
	}
	body.Count(nil)
	a.wanted.whole = false
	if a.Enough(nil) {
		return nil
	}
	return body.Fill(maxFirstEvent, -1, a.wanted.longest, a)
}

// inspectors returns an Inspect that asks own and then user, which may be nil. Own goes
// first, so that a user's Inspect sees an answer that is held already, and is asked
// only about one that is in order.
func inspectors(own, user func(*retry.Attempt) error) func(*retry.Attempt) error {
	if user == nil {
		return own
	}
	return func(a *retry.Attempt) error {
		if err := own(a); err != nil {
			return err
		}
		return user(a)
	}
}
