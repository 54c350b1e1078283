package openaitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// runs are the responses that run in the background, by their ids.
type runs struct {
	count int // of those that were made here
	kept  map[string]*run
}

// A run is a response in the background. It is over at once.
type run struct {
	call   call
	text   string
	events []string
	status string
}

// responseID returns ID of a path that ends in responses/ID or
// responses/ID/cancel; "" if there is none.
func responseID(path string) string {
	path = strings.TrimSuffix(strings.TrimSuffix(path, "/"), "/cancel")
	rest, id := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	if !strings.HasSuffix(rest, "/responses/") {
		return ""
	}
	return id
}

// Expire forgets all responses in the background: asked for one of them, the
// server answers 404 from then on, as a provider does once it no longer keeps them.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.runs.kept)
}

// keep returns the answer to a request, which may begin a response in the
// background or ask for one. What a script says goes before.
func (s *Server) keep(a Answer, req *Request) Answer {
	if req.Endpoint != Responses || req.Err != nil || a.Status != 0 || a.Body != nil || a.refusal != nil {
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch id := responseID(req.Path); {
	case id == "" && req.Method == http.MethodPost:
		return s.runs.begin(a, req)
	case id != "" && a.Events == nil:
		return s.runs.kept[id].answer(a, req)
	}
	return a
}

// begin keeps the response that a request asks for, if it is to run in the
// background.
func (r *runs) begin(a Answer, req *Request) Answer {
	var c call
	if json.Unmarshal(req.Body, &c) != nil || !c.Background {
		return a
	}
	made := &run{call: c, text: a.Text, events: a.Events, status: "completed"}
	if made.text == "" {
		made.text = DefaultText
	}
	if made.call.Model == "" {
		made.call.Model = "gpt-4o"
	}
	if a.Events == nil {
		r.count++
		made.call.id = "resp_" + strconv.Itoa(r.count)
		made.events = made.call.responseStream(made.text)
		if c.Stream {
			a.Events = made.events
		} else {
			a.Body = []byte(made.call.response("queued", made.text))
		}
	} else {
		made.call.id = idOf(a.Events)
	}
	if r.kept == nil {
		r.kept = make(map[string]*run)
	}
	r.kept[made.call.id] = made
	return a
}

// answer returns the answer to a request for a response, which is nil if it is
// not known.
func (r *run) answer(a Answer, req *Request) Answer {
	query, _ := url.ParseQuery(req.Query)
	cancel := strings.HasSuffix(req.Path, "/cancel")
	switch {
	case r == nil:
		return a.refuse(http.StatusNotFound, "Response with id '"+responseID(req.Path)+"' not found.")
	case cancel != (req.Method == http.MethodPost) || !cancel && req.Method != http.MethodGet && req.Method != http.MethodHead:
		return a.refuse(http.StatusMethodNotAllowed, "Not allowed to "+req.Method+" on "+req.Path+".")
	case cancel:
		r.cancel()
	case query.Get("stream") == "true":
		after, err := strconv.Atoi(query.Get("starting_after"))
		if err != nil {
			after = -1
		}
		a.Events = r.after(after)
		return a
	}
	a.Body = []byte(r.call.response(r.status, r.text))
	return a
}

// refuse turns an answer into an error of the API.
func (a Answer) refuse(status int, message string) Answer {
	a.Status, a.refusal = status, &apiError{"invalid_request_error", "", message}
	return a
}

// cancel makes the last event say that the response was canceled.
func (r *run) cancel() {
	if r.status = "cancelled"; len(r.events) == 0 {
		return
	}
	last := len(r.events) - 1
	r.events = slices.Clone(r.events)
	r.events[last] = Event("response.cancelled", fmt.Sprintf(`{"type":"response.cancelled","sequence_number":%d,"response":%s}`,
		last, r.call.response(r.status, r.text)))
}

// after returns the events behind the last whose number is n or less.
func (r *run) after(n int) []string {
	from := 0
	for i, event := range r.events {
		if number, ok := fieldsOf(event); ok && number.Number != nil && *number.Number <= n {
			from = i + 1
		}
	}
	return append([]string{}, r.events[from:]...)
}

// fields are what is looked at in an event.
type fields struct {
	Number   *int `json:"sequence_number"`
	Response struct {
		ID string `json:"id"`
	} `json:"response"`
}

// fieldsOf reads the data of an event. A script may have events that are no JSON.
func fieldsOf(event string) (f fields, ok bool) {
	_, data, _ := strings.Cut(event, "data:")
	err := json.Unmarshal([]byte(data), &f)
	return f, err == nil
}

// idOf returns the id of the response that events are of; "" if they do not say.
func idOf(events []string) string {
	for _, event := range events {
		if f, ok := fieldsOf(event); ok && f.Response.ID != "" {
			return f.Response.ID
		}
	}
	return ""
}
