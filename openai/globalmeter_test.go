package openai_test

import (
	"os"
	"os/exec"
	"testing"

	"go.opentelemetry.io/otel"

	"github.com/retrip-go/retrip/openai"
)

// A Transport is often made in a package's variables, before main has set the
// MeterProvider. The global one can be set once in a process, so that this
// test runs in one of its own.
func TestAMeterProviderThatIsSetLaterRecords(t *testing.T) {
	t.Parallel()
	const own = "RETRIP_TEST_GLOBAL_METER"
	if os.Getenv(own) == "" {
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		again.Env = append(os.Environ(), own+"=1")
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	tr := newChain(t, answers(reply(200, `{}`), reply(200, `{"model":"m-1","usage":{"prompt_tokens":9}}`)), openai.Config{})
	do(t, tr, ask(t, t.Context(), "m"))
	reader, provider := newReader()
	otel.SetMeterProvider(provider)
	do(t, tr, ask(t, t.Context(), "m"))
	data := collect(t, reader)
	for name, n := range map[string]uint64{
		inferenceDuration: 1, attemptDuration: 1, inputTokens: 1, "retrip.retry.attempts": 1, "retrip.breaker.calls": 1, "retrip.breaker.state": 3,
	} {
		if data.count(name) != n {
			t.Errorf("%d of %s, want %d: %+v", data.count(name), name, n, data.with(name))
		}
	}
}
