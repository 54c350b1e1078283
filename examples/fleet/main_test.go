package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if isReplica() {
		replica()
		return
	}
	os.Exit(m.Run())
}

func TestTheStoryIsAsTheReadmeTellsIt(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed")
		}
		t.Log("not tested: redis-server is not installed (apt-get install redis-server)")
		return
	}
	var out bytes.Buffer
	if err := tell(t.Context(), &out, program); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	for _, want := range []string{
		"A         breaker is open: its own calls fail",
		"B         breaker is open: another process said so",
		"C         breaker is open: another process said so",
		"A         breaker is closed",
		"B         breaker is closed",
		"C         breaker is closed",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the story does not tell: %s", want)
		}
	}
}
