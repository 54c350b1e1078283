package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
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
func calls(ctx context.Context, name string, rt http.RoundTripper, request maker, payload []byte, answer int) contender {
	buffer := make([]byte, 32<<10)
	once := func() error {
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
	return contender{name, func(n int) error {
		for range n {
			if err := once(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}}
}

func metered() settings {
	return settings{wait: time.Nanosecond, alike: true, meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))}
}

func unmetered() settings { return settings{wait: time.Nanosecond, alike: true} }

// callers are all ways to make a call, the bare base first, each over a base of its own.
func callers(ctx context.Context, payload []byte, base func() *stub) []contender {
	size := len(base().answer)
	list := []contender{calls(ctx, "bare", base(), plain, payload, size)}
	for _, p := range all() {
		list = append(list, calls(ctx, p.name, p.wrap(base(), unmetered()), plain, payload, size))
		if p.metered {
			list = append(list, calls(ctx, p.name+" with an SDK meter", p.wrap(base(), metered()), plain, payload, size))
		}
		if p.tells() {
			list = append(list, calls(ctx, p.name+opaquely, p.wrap(base(), unmetered()), opaque, payload, size))
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
	list := []contender{calls(ctx, "bare, sent again by hand", byHand{base()}, plain, payload, size)}
	for _, p := range all() {
		if !p.retries {
			continue
		}
		list = append(list, calls(ctx, p.name, p.wrap(base(), unmetered()), plain, payload, size))
		if p.tells() {
			list = append(list, calls(ctx, p.name+opaquely, p.wrap(base(), unmetered()), opaque, payload, size))
		}
	}
	return list
}

// breakers admit a call and hear of its success, on so many goroutines.
func breakers(goroutines int) []contender {
	beside := func(name string, once func() error) contender {
		return contender{name, func(n int) error {
			errs := make([]error, goroutines)
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for range (n + goroutines - 1 - g) / goroutines {
						if err := once(); err != nil {
							errs[g] = fmt.Errorf("%s: %w", name, err)
							return
						}
					}
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		}}
	}
	own := retripbreaker.New(retripbreaker.Config{})
	two := gobreaker.NewTwoStepCircuitBreaker[*http.Response](gobreakerSettings())
	safe := newFailsafeBreaker()
	simple := breaker.New(threshold, 2, openFor)
	return []contender{
		beside("retrip", func() error {
			var p retripbreaker.Permit
			if err := own.Allow(&p); err != nil {
				return err
			}
			p.Success()
			return nil
		}),
		beside("failsafe-go", func() error {
			if !safe.TryAcquirePermit() {
				return errors.New("refused")
			}
			safe.RecordSuccess()
			return nil
		}),
		beside("gobreaker", func() error {
			done, err := two.Allow()
			if err != nil {
				return err
			}
			done(nil)
			return nil
		}),
		beside("eapache/go-resiliency", func() error { return simple.Run(succeed) }),
	}
}

func succeed() error { return nil }
