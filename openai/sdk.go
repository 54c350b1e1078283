package openai

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// An SDKRetries says how a Transport gets along with an SDK above it that repeats
// failed calls, too. The official SDKs do so twice by default, and each repetition
// would be a call with MaxAttempts of its own. Turn their retries off where you can
// (openai-go: option.WithMaxRetries(0)). Where you can't, the zero value keeps the two
// from multiplying.
type SDKRetries int

// These are the ways to get along with an SDK's retries.
const (
	// StopSDKRetries is the default. It marks a failure with "x-should-retry: false",
	// which SDKs obey, if the call was retried here. It does so too if the call would
	// have been retried but for the budget, the deadline, too long a wait, the breaker
	// or a quota that is used up. What is never retried here is left to the SDK.
	//
	// Errors have no headers to mark. A request that comes with an
	// X-Stainless-Retry-Count of 1 or more is the SDK repeating a call that was given up
	// here, and gets one attempt. The first such request is logged as a warning.
	StopSDKRetries SDKRetries = iota

	// StopSDKRetriesAlways does the same. It also answers a call that was refused with
	// a response in place of an error, because SDKs repeat errors: a 503 with the code
	// "circuit_open" for a *breaker.OpenError, and a 429 with the code
	// "rate_limit_exceeded" for a *LimitError, each with a Retry-After.
	StopSDKRetriesAlways

	// IgnoreSDKRetries leaves headers, requests and errors as they are.
	IgnoreSDKRetries
)

// String returns the name of the constant.
func (s SDKRetries) String() string {
	switch s {
	case StopSDKRetries:
		return "StopSDKRetries"
	case StopSDKRetriesAlways:
		return "StopSDKRetriesAlways"
	case IgnoreSDKRetries:
		return "IgnoreSDKRetries"
	default:
		return "SDKRetries(" + strconv.Itoa(int(s)) + ")"
	}
}

// valid reports whether s is one of the constants, for Config.Validate.
func (s SDKRetries) valid() bool { return s >= StopSDKRetries && s <= IgnoreSDKRetries }

// An sdkGuard applies an SDKRetries to the calls of one Transport.
type sdkGuard struct {
	mode   SDKRetries
	logger *slog.Logger // nil logs nothing
	warned atomic.Bool
}

// limit returns the context for a call. A call that is an SDK's repetition of another
// gets one attempt: the first one had all that the Config allows, and two layers that
// retry multiply the load on a provider that is in trouble.
func (g *sdkGuard) limit(ctx context.Context, h http.Header) (limited context.Context, repeated bool) {
	if g.mode == IgnoreSDKRetries || !isSDKRetry(h) {
		return ctx, false
	}
	return retry.WithMaxAttempts(ctx, 1), true
}

// warn logs that an SDK repeats calls. It does so once for a Transport, since every
// later call would say the same.
func (g *sdkGuard) warn(ctx context.Context) {
	if g.logger != nil && !g.warned.Swap(true) {
		g.logger.LogAttrs(ctx, slog.LevelWarn, "sdk retries on top of retrip",
			slog.String("effect", "its repetitions get one attempt each"),
			slog.String("advice", "turn the SDK's retries off; openai-go: option.WithMaxRetries(0)"))
	}
}

// isSDKRetry reports whether the request is a repetition. SDKs that are made by
// Stainless, the official ones among them, count their attempts from 0 in this header.
func isSDKRetry(h http.Header) bool {
	values := h["X-Stainless-Retry-Count"]
	if len(values) == 0 {
		return false
	}
	n, err := strconv.ParseUint(values[0], 10, 64)
	return err == nil && n > 0
}

// mark makes a response final for an SDK, if this package has given the call up. The
// header is OpenAI's own word for that, and the SDKs read it before the status.
func (g *sdkGuard) mark(response *http.Response, gaveUp bool) {
	if !gaveUp || g.mode == IgnoreSDKRetries || !isSDKRetryable(response) {
		return
	}
	// The base may still hold the map, or hand it out again.
	if response.Header = maps.Clone(response.Header); response.Header == nil {
		response.Header = http.Header{}
	}
	response.Header["X-Should-Retry"] = []string{"false"}
}

// isSDKRetryable reports whether openai-go, openai-python and openai-node would repeat
// the call. They repeat more than this package does: a 409 too, and all of 5xx. A mark on
// any other response would only change its headers without need.
func isSDKRetryable(response *http.Response) bool {
	code := response.StatusCode
	if code < http.StatusBadRequest {
		return false
	}
	switch advised := adviceOf(response.Header); {
	case advised == stopAdvised:
		return false
	case advised == retryAdvised, code >= http.StatusInternalServerError,
		code == http.StatusRequestTimeout, code == http.StatusConflict, code == http.StatusTooManyRequests:
		return true
	}
	return false
}

// answer returns what a failed call is answered with: err, or the response that stands
// for it. A caller whose context is over gets the error, because no SDK repeats that.
func (g *sdkGuard) answer(req *http.Request, err error) (*http.Response, error) {
	if g.mode != StopSDKRetriesAlways || req.Context().Err() != nil {
		return nil, err
	}
	var open *breaker.OpenError
	var limited *LimitError
	switch {
	case errors.As(err, &open):
		return openCircuit.response(req, open.RetryAfter), nil
	case errors.As(err, &limited):
		return rateLimited.response(req, limited.RetryAfter), nil
	}
	return nil, err
}

// A refusal is what a call that was refused looks like as a provider's error, so that
// an SDK decodes it as any other.
type refusal struct {
	status              int
	errType, code, text string
}

var (
	openCircuit = refusal{
		http.StatusServiceUnavailable, "server_error", "circuit_open",
		"Not sent: the circuit to the provider is open after failures.",
	}
	rateLimited = refusal{
		http.StatusTooManyRequests, "requests", "rate_limit_exceeded",
		"Not sent: the provider's rate limit is exhausted, and it takes too long to wait for it.",
	}
)

// response returns a response that was never sent by any server. It is complete all the
// same, because SDKs, proxies and loggers read every part of a response.
func (r refusal) response(req *http.Request, after time.Duration) *http.Response {
	body := `{"error":{"message":"` + r.text + `","type":"` + r.errType + `","param":null,"code":"` + r.code + `"}}`
	response := &http.Response{
		Status:     strconv.Itoa(r.status) + " " + http.StatusText(r.status),
		StatusCode: r.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":   {"application/json"},
			"Content-Length": {strconv.Itoa(len(body))},
			"Retry-After":    {wholeSeconds(after)},
			"X-Should-Retry": {"false"},
		},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(strings.NewReader(body)),
		Request:       req,
	}
	if req.Method == http.MethodHead {
		response.Body = http.NoBody
	}
	return response
}

// wholeSeconds rounds up: a caller who comes back earlier comes for nothing. Fractions
// are not allowed in Retry-After (RFC 9110, section 10.2.3).
func wholeSeconds(d time.Duration) string {
	n := int64(max(d, 0) / time.Second)
	if d%time.Second > 0 {
		n++
	}
	return strconv.FormatInt(max(n, 1), 10)
}
