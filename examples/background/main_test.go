package main

import (
	"strings"
	"testing"

	"github.com/retrip-go/retrip/openai/openaitest"
)

func TestRun(t *testing.T) {
	for _, name := range []string{"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"} {
		t.Setenv(name, "")
	}
	tooOld := openaitest.Error(400, "invalid_request_error", "", "The stream is too old.")
	for name, row := range map[string]struct {
		cuts []openaitest.Answer
		want string
	}{
		"cut twice":      {[]openaitest.Answer{openaitest.OK().CutAfter(6), openaitest.OK().CutAfterBytes(500)}, openaitest.DefaultText + "\nresumed 2 times\n"},
		"not to be had":  {[]openaitest.Answer{openaitest.OK().CutAfter(6), tooOld}, "Hello! How \nresp_1 is polled for\n" + openaitest.DefaultText + "\nresumed 1 times\n"},
		"not cut at all": {nil, openaitest.DefaultText + "\nresumed 0 times\n"},
	} {
		var out strings.Builder
		if err := run(t.Context(), &out, row.cuts...); err != nil || out.String() != row.want {
			t.Errorf("%s: %v: the output is\n%swant\n%s", name, err, &out, row.want)
		}
	}
}
