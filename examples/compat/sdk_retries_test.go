package compat

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	sashabaranov "github.com/sashabaranov/go-openai"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// askRetrying asks with an openai-go as its users make it: it retries twice.
func askRetrying(ctx context.Context, url string, client *http.Client) error {
	o := openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("sk-test"), option.WithHTTPClient(client))
	_, err := o.Chat.Completions.New(ctx, paramsOpenAI)
	return err
}

func TestSDKRetriesDoNotMultiplyAttempts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		answer   openaitest.Answer
		requests int
	}{
		{openaitest.Status(503), retry.DefaultMaxAttempts},
		{openaitest.Status(500), retry.DefaultMaxAttempts},
		{openaitest.Status(429).With("Retry-After-Ms", "1"), retry.DefaultMaxAttempts},
		// What the chain does not repeat is left to the SDK, which repeats it twice.
		{openaitest.Status(409).With("Retry-After-Ms", "1"), 3},
	} {
		t.Run(http.StatusText(row.answer.Status), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, retrip.Config{})
			s.provider.Always(openaitest.Chat, row.answer)
			err := askRetrying(t.Context(), s.provider.URL, s.client)
			var status *openai.Error
			if !errors.As(err, &status) || status.StatusCode != row.answer.Status {
				t.Errorf("error %v", err)
			}
			if got := s.provider.Count(openaitest.Chat); got != row.requests {
				t.Errorf("%d requests, want %d", got, row.requests)
			}
		})
	}
}

func TestSDKRetriesOfARefusedConnectionDialOnceEach(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String() + "/v1"
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	var dials atomic.Int64
	var log bytes.Buffer
	base := retrip.BaseTransport()
	dial := base.DialContext
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, address)
	}
	cfg := quick(retrip.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	chain := retrip.NewTransport(base, cfg)
	defer chain.Close() //nolint:errcheck // nothing is registered
	err = askRetrying(t.Context(), url, &http.Client{Transport: chain})
	if kind(err) != "refused" {
		t.Errorf("error %v", err)
	}
	if got := dials.Load(); got < retry.DefaultMaxAttempts || got > retry.DefaultMaxAttempts+2 {
		t.Errorf("%d dials, want %d and at most one for each of the SDK's two retries", got, retry.DefaultMaxAttempts)
	}
	if got := strings.Count(log.String(), "WithMaxRetries(0)"); got != 1 {
		t.Errorf("%d warnings, want 1, in\n%s", got, &log)
	}
}

func TestUsedUpQuotaIsAskedForOnce(t *testing.T) {
	t.Parallel()
	quota := openaitest.Error(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota.")
	t.Run("openai-go", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, retrip.Config{})
		s.provider.Always(openaitest.Chat, quota)
		var status *openai.Error
		if err := askRetrying(t.Context(), s.provider.URL, s.client); !errors.As(err, &status) {
			t.Fatal(err)
		}
		const body = `{"message":"You exceeded your current quota.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}`
		if status.Code != "insufficient_quota" || status.RawJSON() != body {
			t.Errorf("code %q in %s, want %s", status.Code, status.RawJSON(), body)
		}
		if got := s.counts(t); got != mistake {
			t.Errorf("%+v, want %+v", got, mistake)
		}
	})
	t.Run("sashabaranov", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, retrip.Config{})
		s.provider.Always(openaitest.Chat, quota)
		_, err := streamSashabaranov(t.Context(), s.provider.URL, s.client)
		var status *sashabaranov.APIError
		if !errors.As(err, &status) {
			t.Fatal(err)
		}
		if status.Code != "insufficient_quota" || status.Message != "You exceeded your current quota." {
			t.Errorf("code %q, message %q", status.Code, status.Message)
		}
		if got := s.counts(t); got != mistake {
			t.Errorf("%+v, want %+v", got, mistake)
		}
	})
}

func TestSDKDoesNotRetryAnOpenCircuit(t *testing.T) {
	t.Parallel()
	cfg := retrip.Config{SDKRetries: retrip.StopSDKRetriesAlways}
	cfg.Retry.MaxAttempts, cfg.Breaker.FailureThreshold = 1, 1
	s := newScene(t, cfg)
	s.provider.Always(openaitest.Chat, openaitest.Status(503))
	// Without attempts of the chain's the SDK's first retry is its own affair; what
	// it gets then ends them.
	for range 2 {
		var status *openai.Error
		if err := askRetrying(t.Context(), s.provider.URL, s.client); !errors.As(err, &status) || status.StatusCode != 503 || status.Code != "circuit_open" {
			t.Errorf("%v with code %q, want circuit_open", err, status.Code)
		}
	}
	if got := s.chain.Snapshot().Breakers[0].Totals.Rejected; got != 2 || s.provider.Count(openaitest.Chat) != 1 {
		t.Errorf("%d rejections, %d requests", got, s.provider.Count(openaitest.Chat))
	}
}

func TestStatefulCallIsRepeatedOnlyIfNothingWasStored(t *testing.T) {
	t.Parallel()
	hinted := openaitest.Status(503).With("Retry-After-Ms", "1")
	for name, row := range map[string]struct {
		answer  openaitest.Answer
		store   bool
		becomes counts
	}{
		"429":                   {openaitest.Status(429).With("Retry-After-Ms", "1"), true, waited},
		"503 with a hint":       {hinted, true, mended},
		"503":                   {openaitest.Status(503), true, passed},
		"503, not to be stored": {openaitest.Status(503), false, mended},
		"reset":                 {openaitest.ResetBeforeHeaders(), true, passed},
		"cut":                   {openaitest.OK().CutAfter(40), true, passed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, retrip.Config{RetryStateful: true})
			s.provider.Script(openaitest.Responses, row.answer)
			params := paramsOfResponse()
			params.Store = openai.Bool(row.store)
			o := newOpenAI(s.provider.URL, s.client)
			answer, err := o.Responses.New(t.Context(), params)
			if row.becomes == passed {
				if err == nil {
					t.Error("no error")
				}
			} else if err != nil || answer.OutputText() != openaitest.DefaultText {
				t.Errorf("%v", err)
			}
			if got := s.counts(t); got != row.becomes {
				t.Errorf("%+v, want %+v", got, row.becomes)
			}
		})
	}
}
