package breaker

import (
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// What the zero values of a [Config] stand for.
const (
	DefaultName             = "default"
	DefaultFailureThreshold = 5
	DefaultFailureRatio     = 0.5
	DefaultMinRequests      = 20
	DefaultWindow           = 60 * time.Second
	DefaultOpenDuration     = 30 * time.Second
	DefaultSuccessThreshold = 1
	DefaultMaxProbes        = 1
	DefaultMaxKeys          = 1024
)

// The greatest values of what takes memory or could overflow.
const (
	maxMinRequests = 10_000
	maxProbes      = 1_000
	maxKeys        = 65_536
	maxDuration    = 24 * time.Hour
)

// A Config says when a breaker opens, for how long, and who hears of it. The zero
// value is safe for production. It is copied when a [Breaker] or a [Transport] is
// made; later changes to it have no effect. Functions in it must be safe for
// concurrent use.
type Config struct {
	// FailureThreshold is the number of failures in a row that opens a
	// breaker. Failures that come together count as one: the next one counts
	// when 1 s / (FailureThreshold - 1) has passed, so that a row lasts a second
	// at least. The attempts of one call count once in it, and not at all if the
	// first of them failed together with another. A row ends with the success
	// of a request that was admitted in it; a stream's must have ended well.
	// A row opens the breaker only if two thirds of the requests that were sent in
	// it have failed: where failures are faster than answers, the successes of the
	// others can't be there yet. Failures that are slow themselves, at a time limit
	// or of requests from before the row, need no such share. FailureRatio has the
	// same condition.
	// With 1 the first failure opens the breaker. 0 means 5, negative turns the
	// rule off.
	FailureThreshold int

	// FailureRatio is the share of failures that opens a breaker, among at
	// least MinRequests outcomes in the Window. It must hold also for the
	// outcomes of the last two seconds alone, or for the last five where those
	// are fewer, and it must go on to hold: at five failures at least half a
	// second apart, without one between at which it does not. In a half-open
	// breaker in which a place has run out, it is the share of the probes that
	// may not fail before their places run out; see ProbeTimeout. It is at
	// most 1; 0 means 0.5, negative turns the rule off.
	FailureRatio float64

	// MinRequests is the number of outcomes in the Window from which on the
	// FailureRatio holds. After so many successes that ended well, a breaker
	// that has closed is as one that was never open. It is at most 10,000; 0
	// means 20.
	MinRequests int

	// Window is how far back outcomes are looked at, in steps of a tenth of
	// it. After a Window without a failure, a breaker that has closed is as one
	// that was never open. It is at most 24 hours; 0 means 60 s.
	Window time.Duration

	// OpenDuration is the longest that failures alone keep a breaker open. It
	// is open for 5 s, or for OpenDuration if that is shorter, and after each
	// probe that fails for twice as long, up to OpenDuration. A failure that
	// asks for a longer wait gets it. Neither opens it for more than 120 s.
	// Trip opens it for OpenDuration. In a chain whose calls may go to another
	// target meanwhile, failures open it for 15 s at most, whatever they ask for:
	// trying again is cheap there, and the first choice is used again soon. It is
	// at most 24 hours; 0 means 30 s.
	OpenDuration time.Duration

	// ProbeTimeout is how long a probe holds its place in a half-open breaker.
	// A probe that takes longer goes on, and its outcome counts, but the number
	// of places doubles, up to 1,000: long calls are no reason to refuse all
	// others. When 64 places have run out the breaker closes. ProbeTimeout is
	// at most 24 hours; 0 means for as long as the breaker was open, or for the
	// longest time limit (as retry.Config.AttemptTimeout) that a failure since it
	// was closed ran into, if that is longer.
	ProbeTimeout time.Duration

	// SuccessThreshold is the number of successful probes that closes a
	// half-open breaker. 0 means 1.
	SuccessThreshold int

	// MaxProbes is the number of requests that a half-open breaker lets through
	// at the same time, at first; see ProbeTimeout. It is at most 1,000; 0
	// means 1.
	MaxProbes int

	// MaxKeys is the number of breakers that a Transport keeps. Beyond it the
	// least recently used one is forgotten. Those that are open, or know of
	// failures, are the last to go. It is at most 65,536; 0 means 1024.
	MaxKeys int

	// Fleet shares with other processes which breakers have opened, here and
	// there; see [Fleet] for what a breaker makes of that. It costs a call
	// nothing. It may serve any number of Transports, and is not closed with
	// them. nil means that each process learns alone.
	Fleet Fleet

	// Name is the key of a Breaker made by New; a Transport names its breakers
	// by Key. "" means "default".
	Name string

	// Key returns the name of the breaker that watches over a request. It
	// ends up in errors, logs and metrics, so it must hold no secrets. It must
	// not change the request, and must be safe for concurrent use. nil means
	// scheme and host in lower case, as "https://api.openai.com". In the chain
	// the endpoint follows, and the model and the target, as far as they are
	// known: "https://api.openai.com chat gpt-4o". Of a model's name that is the
	// first 128 bytes, of a host and of what Key returns the first 1024.
	Key func(*http.Request) string

	// Observe judges what an attempt came to, by the response and the error that
	// the base returned; one of them is nil. It may read and replace
	// Response.Body. If it returns Undecided, the [Observer] that it returns sees
	// the body, or the default one if that is nil. Any other outcome is final,
	// and its Observer is not used. The duration is the wait that a Failure asked
	// for, 0 if none.
	//
	// It is not asked about attempts that ended with the caller's context, by a
	// time limit of a layer above, or because the request can't be sent (a
	// malformed header, a body that fails): there it is known whose fault that
	// is. Nor is it asked about 101 Switching Protocols, which is always a
	// success. nil means [DefaultObserve].
	Observe func(*http.Response, error) (Outcome, Observer, time.Duration)

	// OnStateChange is called after each transition, by the request that caused
	// it, or by the Fleet whose advice did. It runs outside every lock, one call
	// at a time for each breaker and in order. It may use the Breaker, and close
	// the response that caused the transition. If it panics, so does what caused
	// the transition: RoundTrip, Allow, Read, Close and so on. Nothing else is
	// lost by that. On advice a panic is logged and goes no further. nil means
	// that nothing is called.
	OnStateChange func(StateChange)

	// Logger gets one line a transition: Warn when a breaker opens, else Info.
	// nil means no logs.
	Logger *slog.Logger

	// MeterProvider makes the instruments. nil means the global one.
	MeterProvider metric.MeterProvider
}

// Validate returns a [*ConfigError] for the first field whose value is not
// allowed, or nil.
func (c Config) Validate() error {
	// FailureRatio may be NaN, which compares with nothing.
	if !(c.FailureRatio <= 1) {
		return &ConfigError{"FailureRatio", c.FailureRatio, "at most 1; 0 for the default of 0.5, negative for off"}
	}
	for _, f := range []struct {
		name       string
		value, max int
		allowed    string
	}{
		{"MinRequests", c.MinRequests, maxMinRequests, "from 1 to 10000, or 0 for the default of 20"},
		{"SuccessThreshold", c.SuccessThreshold, c.SuccessThreshold, "at least 1, or 0 for the default of 1"},
		{"MaxProbes", c.MaxProbes, maxProbes, "from 1 to 1000, or 0 for the default of 1"},
		{"MaxKeys", c.MaxKeys, maxKeys, "from 1 to 65536, or 0 for the default of 1024"},
	} {
		if f.value < 0 || f.value > f.max {
			return &ConfigError{f.name, f.value, f.allowed}
		}
	}
	for _, f := range []struct {
		name    string
		value   time.Duration
		allowed string
	}{
		{"Window", c.Window, "above 0 and at most 24h, or 0 for the default of 60s"},
		{"OpenDuration", c.OpenDuration, "above 0 and at most 24h, or 0 for the default of 30s"},
		{"ProbeTimeout", c.ProbeTimeout, "above 0 and at most 24h, or 0 for as long as the breaker was open"},
	} {
		if f.value < 0 || f.value > maxDuration {
			return &ConfigError{f.name, f.value, f.allowed}
		}
	}
	return nil
}

// withDefaults returns c with its zero values filled in.
func (c Config) withDefaults() Config {
	fill(&c.FailureThreshold, DefaultFailureThreshold)
	fill(&c.FailureRatio, DefaultFailureRatio)
	fill(&c.MinRequests, DefaultMinRequests)
	fill(&c.Window, DefaultWindow)
	fill(&c.OpenDuration, DefaultOpenDuration)
	fill(&c.SuccessThreshold, DefaultSuccessThreshold)
	fill(&c.MaxProbes, DefaultMaxProbes)
	fill(&c.MaxKeys, DefaultMaxKeys)
	fill(&c.Name, DefaultName)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
