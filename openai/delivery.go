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
	// while 512 MiB are held by the Transport, is handed over as it comes; what
	// is held counts until its reader has read all of it or closes it.
	// All else is as FromFirstEvent has it.
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
	maxJSON           = 16 << 20
	maxWhole          = 64 << 20  // of one stream
	maxWholeAll       = 512 << 20 // of all streams of a Transport
)

// delivery holds responses, as the retry layer's Inspect.
type delivery struct {
	mode  Delivery
	whole prefetch.Quota // of the streams that are held, until they are read
}

func newDelivery(mode Delivery) *delivery {
	return &delivery{mode: mode, whole: prefetch.Quota{Limit: maxWholeAll}}
}

// inspect holds the attempt's response as long as mode says, and returns what
// is wrong with it. What can't be retried isn't held.
func (d *delivery) inspect(a *retry.Attempt) error {
	ctx := a.Request.Context()
	switch answer := call.From(ctx).Answer.(type) {
	case *errorAnswer:
		answer.verdict() // looks into the body, if that is worth it
	case *answer:
		if d.mode == Immediate || answer.format == nil || answer.isOpaque() || !a.Repeatable {
			return nil
		}
		body := answer.held.Init(a.Response.Body, call.AttemptFrom(ctx))
		a.Response.Body = body
		d.hold(body, answer, a.Response.ContentLength)
		if err := answer.failed.Load(); err != nil && (d.mode == Whole || answer.early.Load()) {
			return err
		}
	}
	return nil
}

// hold reads the body until the answer may be handed over: a stream at its
// first useful event, all else when it is whole. Only its first bytes say
// which of them it is.
func (d *delivery) hold(body *prefetch.Body, a *answer, size int64) {
	a.wanted = wanted{stream: a.sniff.label == eventBody, whole: d.mode == Whole && a.format.isJudged()}
	enough := a.enough
	if d.fill(body, a, size, enough) && a.wasMislabeled() && !enough(nil) {
		d.fill(body, a, size, enough)
	}
}

// fill reads on as a stream or as any other answer is read, and reports whether
// it knows which of them it is and there may be more.
func (d *delivery) fill(body *prefetch.Body, a *answer, size int64, enough func([]byte) bool) bool {
	switch {
	case !a.wanted.stream:
		return body.Fill(maxJSON, size, 0, enough) == nil && a.kindKnown()
	case a.wanted.whole:
		body.Count(&d.whole)
		return body.Fill(maxWhole, -1, 0, enough) == nil && a.kindKnown()
	default:
		return body.Fill(maxFirstEvent, -1, maxFirstEventWait, enough) == nil && a.kindKnown()
	}
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
