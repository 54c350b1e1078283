package openai

import (
	"log/slog"
	"strings"
	"testing"
)

func TestTheHundredthTransportIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	var c census
	for range 99 {
		c.count(logger)
	}
	if log.Len() > 0 {
		t.Errorf("too early: %s", &log)
	}
	c.count(nil) // who has no Logger is not told
	c.count(logger)
	c.count(logger)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "transports=101") {
		t.Errorf("the log is %q", got)
	}
}
