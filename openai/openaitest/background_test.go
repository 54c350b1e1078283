package openaitest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

const backgroundCall = `{"model":"m","input":"hi","background":true,"stream":true}`

// get returns status and body, and the error of whichever came to one.
func get(t *testing.T, srv *Server, path string) (status int, body string, err error) {
	t.Helper()
	resp, err := srv.Client().Do(request(t.Context(), t, http.MethodGet, srv.URL+path, ""))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestAResponseInTheBackgroundIsKeptHoweverMuchOfItWasSent(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	_, whole, err := ask(t, srv, "/responses", backgroundCall)
	if err != nil || countEvents(whole) != 15 || !strings.Contains(whole, `"id":"resp_1"`) || !strings.Contains(whole, `"background":true`) {
		t.Fatalf("%v: %s", err, whole)
	}
	srv.Script(Responses, OK().CutAfter(4))
	_, begin, err := ask(t, srv, "/responses", backgroundCall)
	if err == nil || countEvents(begin) != 4 {
		t.Fatalf("%v: %s", err, begin)
	}
	_, rest, err := get(t, srv, "/responses/resp_2?stream=true&starting_after=3")
	if want := strings.ReplaceAll(whole, "resp_1", "resp_2"); err != nil || begin+rest != want {
		t.Errorf("%v: %s\nwant %s", err, begin+rest, want)
	}
	if _, all, err := get(t, srv, "/responses/resp_1?stream=true"); err != nil || all != whole {
		t.Errorf("from the beginning: %v: %s", err, all)
	}
	if _, none, err := get(t, srv, "/responses/resp_1?stream=true&starting_after=14"); err != nil || none != "" {
		t.Errorf("after the end: %v: %q", err, none)
	}
	if status, body, err := get(t, srv, "/responses/resp_1"); err != nil || status != 200 || !strings.Contains(body, `"status":"completed"`) || !strings.Contains(body, DefaultText) {
		t.Errorf("%v, %d: %s", err, status, body)
	}
}

func TestAResponseInTheBackgroundCanBeCanceledAndExpires(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	if _, body, err := ask(t, srv, "/responses", `{"background":true}`); err != nil || !strings.Contains(body, `"status":"queued"`) {
		t.Fatalf("%v: %s", err, body)
	}
	if status, body, err := ask(t, srv, "/responses/resp_1/cancel", ""); err != nil || status != 200 || !strings.Contains(body, `"status":"cancelled"`) {
		t.Errorf("%v, %d: %s", err, status, body)
	}
	if _, rest, err := get(t, srv, "/responses/resp_1?stream=true&starting_after=13"); err != nil || !strings.Contains(rest, "event: response.cancelled\n") || countEvents(rest) != 1 {
		t.Errorf("%v: %s", err, rest)
	}
	if status, _, err := get(t, srv, "/responses/resp_1/cancel"); err != nil || status != 405 {
		t.Errorf("GET of cancel: %v, %d", err, status)
	}
	srv.Expire()
	if status, body, err := get(t, srv, "/responses/resp_1?stream=true"); err != nil || status != 404 || !strings.Contains(body, "resp_1") {
		t.Errorf("%v, %d: %s", err, status, body)
	}
}

func TestAScriptGoesBeforeWhatIsKept(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	own := Stream(Event("", `{"sequence_number":7,"response":{"id":"own"}}`), Event("", `{"sequence_number":8}`), Event("", "none"))
	srv.Script(Responses, own, Status(503), OK().CutAfter(1))
	if _, body, err := ask(t, srv, "/responses", backgroundCall); err != nil || countEvents(body) != 3 {
		t.Errorf("%v: %s", err, body)
	}
	if status, _, err := get(t, srv, "/responses/own?stream=true"); err != nil || status != 503 {
		t.Errorf("%v, %d", err, status)
	}
	if _, body, err := get(t, srv, "/responses/own?stream=true&starting_after=7"); err == nil || body != own.Events[1] {
		t.Errorf("%v: %s", err, body)
	}
}

func TestAStreamIsCutAtAnyByte(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	_, whole, err := ask(t, srv, "/chat/completions", streamCall)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 100, len(whole) - 1, len(whole) + 9} {
		srv.Script(Chat, OK().CutAfterBytes(n))
		if _, body, err := ask(t, srv, "/chat/completions", streamCall); err == nil || body != whole[:min(n, len(whole))] {
			t.Errorf("%d: %v, %d bytes", n, err, len(body))
		}
	}
}
