package openaitest

import (
	"bytes"
	"compress/gzip"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A message is an answer in its last form: what is written, and how it ends.
type message struct {
	status  int
	header  http.Header
	pieces  []string // events, or one body
	stream  bool
	chunked bool
	end     fault
}

// compose returns the message of an answer. Faults are put in here, so that a player need
// not know what it sends. Headers of the Answer go last: a test may send wrong ones.
func compose(a Answer, req *Request) message {
	status, body, events := content(a, req)
	m := message{status: status, header: requestID(req)}
	if events != nil {
		m.stream = true
		m.header.Set("Content-Type", "text/event-stream; charset=utf-8")
		m.header.Set("Cache-Control", "no-cache")
		m.pieces, m.end = faultyStream(a, req.Endpoint, events)
	} else {
		if len(body) > 0 {
			m.header.Set("Content-Type", "application/json")
		}
		var length int
		body, length, m.end = faultyBody(a, req.Endpoint, body)
		m.chunked = a.Chunked || len(a.Trailer) > 0 || m.end == faultEndless
		m.pieces = []string{body}
		if !m.chunked && status != http.StatusNoContent {
			m.header.Set("Content-Length", strconv.Itoa(length))
		}
	}
	if a.Gzip {
		m.header.Set("Content-Encoding", "gzip")
	}
	for key := range a.Trailer {
		m.header.Add("Trailer", key)
	}
	maps.Copy(m.header, a.Header)
	if req.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
		m.pieces = nil
	}
	return m
}

// requestID returns the header that names a request: Anthropic has its own.
func requestID(req *Request) http.Header {
	id := []string{"req_" + strconv.Itoa(req.Number)}
	if req.Endpoint == Messages {
		return http.Header{"Request-Id": id}
	}
	return http.Header{"X-Request-Id": id}
}

// content returns what the answer says; events is nil if it is a body.
func content(a Answer, req *Request) (status int, body string, events []string) {
	status = a.Status
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case a.Events != nil:
		return status, "", a.Events
	case a.Body != nil:
		return status, string(a.Body), nil
	case a.refusal != nil:
		return status, a.refusal.body(req.Endpoint), nil
	case status >= 400:
		return status, errorBody(req.Endpoint, status), nil
	case status >= 300 || status == http.StatusNoContent:
		return status, "", nil
	}
	healthy, body, events := healthy(a.Text, req)
	if a.Status == 0 {
		status = healthy
	}
	return status, body, events
}

// faultyStream returns what is sent of a stream, and how it ends. The Answer's own events
// are never changed, because other requests may get them as well.
func faultyStream(a Answer, endpoint string, events []string) (pieces []string, end fault) {
	if a.bytes {
		whole := strings.Join(events, "")
		return []string{whole[:min(a.after, len(whole))]}, a.fault
	}
	n := min(a.after, len(events))
	switch a.fault {
	case faultCut, faultReset, faultStall:
		return events[:n], a.fault
	case faultEnd:
		return events[:n], faultNone
	case faultError:
		return append(slices.Clone(events[:n]), a.err.event(endpoint, n)), faultNone
	case faultCorrupt:
		events = slices.Clone(events)
		if n < len(events) {
			events[n] = corrupt(events[n])
		}
		return events, faultNone
	default:
		return events, a.fault
	}
}

// corrupt keeps the name of an event and a part of its data.
func corrupt(event string) string {
	head, data, ok := strings.Cut(event, "data: ")
	if !ok {
		return event
	}
	data = strings.TrimRight(data, "\n")
	return head + `data: {` + strings.TrimPrefix(data[:len(data)/2], "{") + "\n\n"
}

// faultyBody returns the bytes to be sent and the length to be declared.
func faultyBody(a Answer, endpoint, body string) (sent string, length int, end fault) {
	if a.fault == faultError {
		body = a.err.body(endpoint)
	}
	if a.Gzip {
		body = compress(body)
	}
	n := min(a.after, len(body))
	switch a.fault {
	case faultCut, faultReset, faultStall:
		return body[:n], len(body), a.fault
	case faultEnd:
		return body[:n], n, faultNone
	case faultCorrupt:
		return body[:n] + strings.Repeat("#", len(body)-n), len(body), faultNone
	case faultEndless:
		// Whole, it would do for a decoder that reads no further.
		return body[:max(0, len(body)-1)], 0, faultEndless
	default:
		return body, len(body), faultNone
	}
}

// compress returns a body as gzip. A buffer can't fail.
func compress(body string) string {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	_, _ = gz.Write([]byte(body))
	_ = gz.Close()
	return b.String()
}
