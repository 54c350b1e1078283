package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
)

// A target shows one of the places that calls go to.
type target struct {
	Name, Class string
	State       string // in words
	Next        string // what holds calls back from it, if anything does
	Well        string // since when it was last well
	Failed      string // what it failed with last, and when
}

func newTarget(t *retrip.TargetSnapshot, now time.Time) target {
	made := target{Name: t.Name, Class: "closed", State: "takes calls", Well: "not yet"}
	switch {
	case len(t.Rests) > 0:
		made.Class, made.State, made.Next = "paused", "rests", rests(t.Rests, now)
	case t.Open > 0:
		made.Class, made.State, made.Next = "open", "is avoided", counted(t.Open, "breaker")+" open"
	case t.HalfOpen > 0:
		made.Class, made.State, made.Next = "half_open", "is being tried", counted(t.HalfOpen, "breaker")+" half open"
	case t.Rate > 0 || t.Waiting > 0:
		made.Class, made.State, made.Next = "paused", "is rate limited", rate(t)
	}
	if !t.LastWell.IsZero() {
		made.Well = ago(t.LastWell, now)
	}
	if !t.LastFailed.IsZero() {
		made.Failed = ago(t.LastFailed, now) + ": " + failure(t.LastError)
	}
	return made
}

// rests says what a target rests for, and for how long.
func rests(all []retrip.RestSnapshot, now time.Time) string {
	said := make([]string, 0, len(all))
	for _, r := range all {
		what := "its credentials are refused"
		if r.Model != "" {
			what = "it does not have " + strconv.Quote(r.Model)
		}
		said = append(said, what+", one call tries in "+remains(r.Until, now))
	}
	return strings.Join(said, "; ")
}

func rate(t *retrip.TargetSnapshot) string {
	waiting := fmt.Sprintf("%d waiting", t.Waiting)
	if t.Rate == 0 {
		return waiting
	}
	return fmt.Sprintf("%.3g calls a second, %s", t.Rate, waiting)
}

func counted(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return strconv.Itoa(n) + " " + of + "s"
}

func ago(t, now time.Time) string {
	return max(now.Sub(t), 0).Truncate(time.Second).String() + " ago"
}

// failures are the values of error.type in words.
var failures = map[string]string{
	"timeout":          "it was silent for too long",
	"connection_error": "the connection failed",
	"stream_error":     "its answer brought an error",
	"truncated":        "its answer broke off",
	"rate_limited":     "its rate limit was used up",
	"circuit_open":     "its breaker was open",
}

// failure says what an attempt failed with.
func failure(errorType string) string {
	if words, ok := failures[errorType]; ok {
		return words
	}
	if status, err := strconv.Atoi(errorType); err == nil {
		return strings.TrimSpace("it answered " + errorType + " " + http.StatusText(status))
	}
	return "nothing could be sent to it, or its answer was none"
}

// reasons are why a breaker changed its state, in words.
var reasons = map[string]string{
	"failures_in_a_row":    "several calls failed in a row",
	"failure_ratio":        "too many calls failed",
	"probe_failed":         "a probe failed",
	"probes_succeeded":     "the probe succeeded",
	"places_ran_out":       "its probes take long, and none has failed",
	"open_duration_over":   "it is time to try again",
	"tripped":              "somebody opened it",
	"reset":                "somebody closed it",
	"failure_after_advice": "a call failed, as other processes had warned",
	"advised_by_others":    "other processes say that it is down",
}

// reason says why a breaker changed its state.
func reason(why string) string {
	if words, ok := reasons[why]; ok {
		return words
	}
	return why
}
