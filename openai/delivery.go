package openai

import (
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/retry"
)

// A Delivery says when RoundTrip returns a response. The longer it is held,
// the more of what can go wrong is retried and never seen.
type Delivery int

const (
	// FromFirstEvent returns a stream when its first useful event is there,
	// its end or its failure is certain, or 30 s have brought neither; and a
	// JSON answer of up to 16 MiB when it is whole. Nothing is held after that.
	// A failure until then is retried.
	FromFirstEvent Delivery = iota

	// Immediate returns every response at its headers.
	Immediate

	// Whole returns a stream when it has ended, so that one that is cut,
	// stalls or brings an error is retried as a whole: for agents and jobs,
	// which have no use for half an answer. A stream above 64 MiB, or any
	// while 512 MiB are held by the Transport, is returned as FromFirstEvent
	// has it; what is held counts until its reader has read all of it or closes
	// it. A response in the background is not held, because resuming makes it
	// whole: see ResumeError. All else is as FromFirstEvent has it.
	Whole
)

// String returns the name of d.
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
	maxFirstEvent     = 1 << 20 // of a stream without a useful event
	maxFirstEventWait = 30 * time.Second
	maxRoutedWait     = 2 * time.Minute // with targets and a FirstEventTimeout
	maxJSON           = 16 << 20
	maxWhole          = 64 << 20  // of one stream
	maxWholeAll       = 512 << 20 // of all streams of a Transport
)

// delivery holds responses, as the retry layer's Inspect.
type delivery struct {
	mode  Delivery
	whole prefetch.Quota // of the streams that are held, until they are read
}

func newDelivery(cfg *Config) *delivery {
	return &delivery{mode: cfg.Delivery, whole: prefetch.Quota{Limit: maxWholeAll}}
}

// holds returns for how long a stream without a useful event is held. A call that
// goes to another target at the end of a FirstEventTimeout must not have been handed
// over before.
func holds(c *call.Call) time.Duration {
	if o, ok := c.Listener.(*operation); ok && o.patience > 0 {
		return min(o.patience+time.Second, maxRoutedWait)
	}
	return maxFirstEventWait
}

// inspect holds the attempt's response as long as mode says, and returns what
// is wrong with it. What can't be retried isn't held.
func (d *delivery) inspect(a *retry.Attempt) error {
	ctx := a.Request.Context()
	switch answer := call.From(ctx).Answer.(type) {
	case *errorAnswer:
		answer.verdict() // looks into the body, if that is worth it
	case *answer:
		c := call.From(ctx)
		if d.mode == Immediate || answer.format == nil || answer.isOpaque() || !a.Repeatable || c.Resuming {
			return nil
		}
		body := answer.held.Init(a.Response.Body, call.AttemptFrom(ctx))
		a.Response.Body = body
		if d.mode == Whole && resumes(c) {
			d = &delivery{mode: FromFirstEvent} // resuming is what makes it whole
		}
		d.hold(body, answer, a.Response.ContentLength, holds(c))
		if err := answer.failed.Load(); err != nil && (d.mode == Whole || answer.early.Load()) {
			return err
		}
	}
	return nil
}

// hold reads the body until the answer may be handed over: a stream at its
// first useful event or after longest, all else when it is whole. Only its first
// bytes say which of them it is.
func (d *delivery) hold(body *prefetch.Body, a *answer, size int64, longest time.Duration) {
	a.wanted = wanted{longest: longest, stream: a.sniff.label == eventBody, whole: d.mode == Whole && a.format.isJudged()}
	if d.fill(body, a, size) && a.wasMislabeled() && !a.Enough(nil) {
		d.fill(body, a, size)
	}
}

// fill reads on as a stream or as any other answer is read, and reports whether
// it knows which of them it is and there may be more.
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

// fillWhole reads a stream to its end, or where there is no room for all of it as
// far as FromFirstEvent does. That needs so little that it is not counted.
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

// inspectors returns an Inspect that asks own and then user's, which may be nil.
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
