package main

import (
	"regexp"
	"strings"
	"testing"
)

// TestTheTraceTellsOfARetryAndAFailover is also what the README shows.
func TestTheTraceTellsOfARetryAndAFailover(t *testing.T) {
	t.Parallel()
	spans, err := record(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	if err := printTree(&told, spans); err != nil {
		t.Fatal(err)
	}
	const want = `answer a question
   └─ HTTP POST: retrip.retry.attempt=1 retrip.target=home http.response.status_code=500 error.type=500
   · retrip.retry retrip.retry.attempt=1 retrip.retry.reason=server_error retrip.retry.delay=0.1 retrip.retry.delay_source=backoff retrip.target=home
   └─ HTTP POST: retrip.retry.attempt=2 retrip.target=home http.response.status_code=503 error.type=503
   · retrip.retry retrip.retry.attempt=2 retrip.retry.reason=overloaded retrip.retry.delay=0 retrip.retry.delay_source=hint retrip.target=home
   · retrip.failover retrip.retry.attempt=3 retrip.target.from=home retrip.target.to=second error.type=503
   └─ HTTP POST: retrip.retry.attempt=3 retrip.target=second http.response.status_code=200
`
	if got := regexp.MustCompile(`(?m)^ *\d+ ms  |, \d+ ms`).ReplaceAllString(told.String(), ""); got != want {
		t.Errorf("it tells\n%s, not\n%s", got, want)
	}
}
