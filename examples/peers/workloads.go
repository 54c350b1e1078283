package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/eapache/go-resiliency/breaker"
	"github.com/sony/gobreaker/v2"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	retripbreaker "github.com/retrip-go/retrip/breaker"
)

const endpoint = "https://api.openai.com/v1/chat/completions"

type maker func(ctx context.Context, payload []byte) (*http.Request, error)

// plain has its payload in memory, and net/http can tell.
func plain(ctx context.Context, payload []byte) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(payload))
}

// opaque has a payload that can only be read, as that of openai-go.
func opaque(ctx context.Context, payload []byte) (*http.Request, error) {
	req, err := plain(ctx, payload)
	if err == nil {
		req.Body = struct{ io.ReadCloser }{req.Body}
	}
	return req, err
}

// calls makes each round trip, which must yield all of the answer.
func calls(ctx context.Context, rt http.RoundTripper, request maker, payload []byte, answer int) func() func() error {
	return func() func() error {
		buffer := make([]byte, 32<<10)
		return func() error {
			req, err := request(ctx, payload)
			if err != nil {
				return err
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				return err
			}
			read := 0
			for err == nil {
				var n int
				n, err = resp.Body.Read(buffer)
				read += n
			}
			resp.Body.Close()
			if err != io.EOF || resp.StatusCode != http.StatusOK || read != answer { //nolint:errorlint // readers compare
				return fmt.Errorf("status %d, %d bytes: %w", resp.StatusCode, read, err)
			}
			return nil
		}
	}
}

func metered() settings {
	return settings{wait: time.Nanosecond, alike: true, meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))}
}

func unmetered() settings { return settings{wait: time.Nanosecond, alike: true} }

// callers are all ways to make a call, the bare base first, each over a base of its own.
func callers(ctx context.Context, payload []byte, base func() *stub) []contender {
	size := len(base().answer)
	list := []contender{{name: "bare", worker: calls(ctx, base(), plain, payload, size)}}
	for _, p := range alike() {
		add := func(addition string, s settings, request maker) {
			list = append(list, contender{p.does, p.name + addition, calls(ctx, p.wrap(base(), s), request, payload, size)})
		}
		add("", unmetered(), plain)
		if p.metered {
			add(" with an SDK meter", metered(), plain)
		}
		if p.tells() {
			add(opaquely, unmetered(), opaque)
		}
	}
	return list
}

// opaquely is what sets a row apart whose payload is not known to be in memory.
const opaquely = ", a payload that can only be read"

// byHand sends a request again as somebody would who knows that it takes three attempts.
type byHand struct{ base http.RoundTripper }

func (b byHand) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		resp, err := b.base.RoundTrip(req)
		if err != nil || resp.StatusCode == http.StatusOK {
			return resp, err
		}
		resp.Body.Close()
		req = req.Clone(req.Context())
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// repeaters are all ways to repeat a call, each over a base of its own.
func repeaters(ctx context.Context, payload []byte, base func() *stub) []contender {
	size := len(base().answer)
	list := []contender{{name: "bare, sent again by hand", worker: calls(ctx, byHand{base()}, plain, payload, size)}}
	for _, p := range all() {
		if !p.retries {
			continue
		}
		list = append(list, contender{p.does, p.name, calls(ctx, p.wrap(base(), unmetered()), plain, payload, size)})
		if p.tells() {
			list = append(list, contender{p.does, p.name + opaquely, calls(ctx, p.wrap(base(), unmetered()), opaque, payload, size)})
		}
	}
	return list
}

// breakers admit a call and hear of its success.
func breakers() []contender {
	alone := func(name string, once func() error) contender {
		return contender{name: name, worker: func() func() error { return once }}
	}
	own := retripbreaker.New(retripbreaker.Config{})
	two := gobreaker.NewTwoStepCircuitBreaker[*http.Response](gobreakerSettings())
	safe := newFailsafeBreaker()
	simple := breaker.New(threshold, 2, openFor)
	return []contender{
		alone("retrip", func() error {
			var p retripbreaker.Permit
			if err := own.Allow(&p); err != nil {
				return err
			}
			p.Success()
			return nil
		}),
		alone("failsafe-go", func() error {
			if !safe.TryAcquirePermit() {
				return errors.New("refused")
			}
			safe.RecordSuccess()
			return nil
		}),
		alone("gobreaker", func() error {
			done, err := two.Allow()
			if err != nil {
				return err
			}
			done(nil)
			return nil
		}),
		alone("eapache/go-resiliency", func() error { return simple.Run(succeed) }),
	}
}

func succeed() error { return nil }
