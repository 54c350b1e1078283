package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/retrip-go/retrip/breaker"
	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// A story is a sequence of calls to one provider, and at last to two.
type story struct {
	*timeline

	cfg      retrip.Config // that of chat
	chat     chat
	provider *openaitest.Server // nil if it is a real one
}

func (s *story) tell(ctx context.Context) error {
	acts := []func(context.Context) error{s.plainCall, s.stream}
	if s.provider != nil {
		s.line("provider: openaitest, in this process")
		s.line("shortened: the first backoff, %v instead of 500ms; an open breaker's time, %v instead of 5s", firstBackoff, openDuration)
		acts = []func(context.Context) error{s.badStart, s.stream, s.outage, s.recovery, s.failover}
	}
	for _, act := range acts {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) plainCall(ctx context.Context) error {
	s.title("A call")
	return s.answered(ctx, "Say hello in five words.")
}

func (s *story) badStart(ctx context.Context) error {
	s.title("A call that meets a 503, then a 429 with Retry-After")
	s.provider.Script(openaitest.Chat,
		openaitest.Status(503),
		openaitest.Status(429).With("Retry-After", "1"),
		openaitest.Say("Here I am, at the third attempt."),
	)
	if err := s.answered(ctx, "Are you there?"); err != nil {
		return err
	}
	s.line("a rate limit holds for all calls of the account: its wait is in retrip.pacing.waits")
	return nil
}

func (s *story) stream(ctx context.Context) error {
	s.title("A stream, token by token")
	if s.provider != nil {
		s.provider.Script(openaitest.Chat, openaitest.Answer{
			Text: "Each word of this arrives on its own and is printed at once.",
			Pace: 50 * time.Millisecond,
		})
	}
	s.begin("stream: ")
	tokens := 0
	err := s.chat.stream(ctx, "Count from one to ten in words.", func(token string) {
		tokens++
		s.more(token)
	})
	s.end()
	if err != nil {
		return err
	}
	s.line("stream ended well, in %d pieces", tokens)
	return nil
}

// outage makes calls to a provider that is down: as many as open the breaker,
// and three more.
func (s *story) outage(ctx context.Context) error {
	s.title("An outage: five failed calls in a row, in a second or more, open the breaker")
	s.provider.Always(openaitest.Chat, openaitest.Status(503))
	hasty := retry.WithMaxAttempts(ctx, 2) // for calls that somebody waits for
	for n := 1; n <= breaker.DefaultFailureThreshold; n++ {
		if err := pause(ctx, apart); err != nil {
			return err
		}
		var report retry.Report
		_, err := s.chat.ask(retry.WithReport(hasty, &report), "Still there?")
		var status statusError
		if !errors.As(err, &status) {
			return fmt.Errorf("call %d: a 503 was expected, not %w", n, err)
		}
		s.line("call %d: the caller gets a %d, attempts sent: %d, stop reason: %s", n, int(status), report.Attempts, report.Stopped)
	}
	before := s.provider.Count(openaitest.Chat)
	for range 3 {
		start := time.Now()
		_, err := s.chat.ask(hasty, "And now?")
		s.line("rejected in %dµs; errors.Is(err, breaker.ErrOpen) = %t", time.Since(start).Microseconds(), errors.Is(err, breaker.ErrOpen))
	}
	s.line("requests the provider saw of these three: %d", s.provider.Count(openaitest.Chat)-before)
	return nil
}

// apart is how far failures lie apart that all count: what fails at the same time
// is one failure for the breaker.
const apart = 300 * time.Millisecond

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// recovery heals the provider and calls it once the breaker allows that.
func (s *story) recovery(ctx context.Context) error {
	s.title("Recovery: the provider is back, a probe closes the breaker")
	s.provider.Heal()
	_, err := s.chat.ask(ctx, "Better?")
	var refused *breaker.OpenError
	if !errors.As(err, &refused) {
		return fmt.Errorf("a rejection was expected, not %w", err)
	}
	s.line("rejected: the error says when to come back, in %v", refused.RetryAfter.Round(time.Millisecond))
	if err := pause(ctx, refused.RetryAfter); err != nil {
		return err
	}
	for range 3 {
		if err := s.answered(ctx, "Better?"); err != nil {
			return err
		}
	}
	return nil
}

// answered makes a call that is expected to succeed.
func (s *story) answered(ctx context.Context, prompt string) error {
	answer, err := s.chat.ask(ctx, prompt)
	if err == nil {
		s.line("answer: %q", answer)
	}
	return err
}
