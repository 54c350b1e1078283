package openai

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// secret stands for what must never leave a body.
const secret = "sk-planted"

// errorShapes are the errors of providers as they are on the wire.
var errorShapes = []struct {
	name, body string
	want       apiError
}{
	{"OpenAI", `{"error":{"message":"sk-planted","type":"requests","param":null,"code":"rate_limit_exceeded"}}`, apiError{code: "rate_limit_exceeded", kind: "requests"}},
	{"OpenAI, no code", `{"error":{"message":"sk-planted","type":"server_error","param":null,"code":null}}`, apiError{kind: "server_error"}},
	{"OpenAI, a quota", `{"error":{"message":"sk-planted","type":"insufficient_quota","code":"project_spend_limit_exceeded"}}`, apiError{code: "project_spend_limit_exceeded", kind: "insufficient_quota"}},
	{"Azure", `{"error":{"code":"429","message":"sk-planted"}}`, apiError{code: "429"}},
	{"Azure, content filter", `{"error":{"message":"sk-planted","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{}}}}`, apiError{code: "content_filter", inner: "ResponsibleAIPolicyViolation"}},
	{"OpenRouter", `{"error":{"code":429,"message":"sk-planted","metadata":{"raw":"sk-planted","provider_name":"X","code":"nested"}},"user_id":"u"}`, apiError{code: "429"}},
	{"OpenRouter, in a stream", `{"id":"c","object":"chat.completion.chunk","error":{"code":"server_error","message":"sk-planted"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}`, apiError{code: "server_error"}},
	{"vLLM", `{"error":{"message":"sk-planted","type":"BadRequestError","param":null,"code":400}}`, apiError{code: "400", kind: "BadRequestError"}},
	{"vLLM before 0.10.1", `{"object":"error","message":"sk-planted","type":"BadRequestError","param":null,"code":400}`, apiError{code: "400", kind: "BadRequestError"}},
	{"Ollama", `{"error":"sk-planted"}`, apiError{}},
	{"TGI", `{"error":"sk-planted","error_type":"overloaded"}`, apiError{kind: "overloaded"}},
	{"Responses, event", `{"type":"error","sequence_number":1,"code":"server_error","message":"sk-planted","param":null}`, apiError{code: "server_error"}},
	{"Responses, event of the other kind", `{"type":"error","error":{"type":"tokens","code":"rate_limit_exceeded","message":"sk-planted"}}`, apiError{code: "rate_limit_exceeded", kind: "tokens"}},
	{"Anthropic", `{"type":"error","error":{"type":"overloaded_error","message":"sk-planted"}}`, apiError{kind: "overloaded_error"}},
	{"Gemini", `[{"error":{"code":429,"message":"sk-planted","status":"RESOURCE_EXHAUSTED"}}]`, apiError{code: "429", kind: "RESOURCE_EXHAUSTED"}},
	{"white space", " \r\n\t{ \"error\" : { \"code\" : \"x\" } }\n", apiError{code: "x"}},
	{"escaped", `{"\u0065rror":{"c\u006fde":"insufficient\u005fquota"}}`, apiError{code: "insufficient_quota"}},
	{"at the top level", `{"code":"insufficient_quota","message":"sk-planted"}`, apiError{code: "insufficient_quota"}},
	{"at the top level, beside an error that says nothing", `{"code":"a","error":{"code":null,"message":"","param":0}}`, apiError{code: "a"}},
	{"the last of several", `{"error":{"code":"a"},"error":{"code":"b"}}`, apiError{code: "b"}},

	{"a sentence is no code", `{"error":{"code":"key sk-planted is wrong","type":"sk-planted@example"}}`, apiError{}},
	{"nor is a very long one", `{"error":{"code":"` + strings.Repeat("x", 65) + `"}}`, apiError{}},
	{"nor an object", `{"error":{"code":{"sk-planted":1},"type":["sk-planted"]}}`, apiError{}},

	{"cut in the message", `{"error":{"code":"insufficient_quota","type":"t","message":"sk-plan`, apiError{code: "insufficient_quota", kind: "t"}},
	{"cut in the code", `{"error":{"type":"t","code":"insufficient_qu`, apiError{kind: "t"}},
	{"cut in a number", `{"error":{"type":"t","code":42`, apiError{kind: "t"}},
	{"cut in a nested code", `{"error":{"innererror":{"code":"a","x":[1`, apiError{inner: "a"}},
	{"cut in a key", `{"error":{"code":"a","ty`, apiError{code: "a"}},

	{"at the top level, beside null", `{"id":"resp_1","error":null,"code":"x"}`, apiError{code: "x"}},
	{"no error: an answer", `{"id":"c","object":"chat.completion","choices":[{"message":{"content":"{\"error\":1}"}}]}`, apiError{}},
	{"not in a response inside", `{"response":{"id":"r","error":{"code":"x"}}}`, apiError{}},
	{"no error: a list", `[1,2]`, apiError{}},
	{"no error: text", `upstream connect error`, apiError{}},
	{"no error: HTML", `<html>{"error":{}}</html>`, apiError{}},
	{"nothing", ``, apiError{}},
	{"half of nothing", `{"error":`, apiError{}},
}

func TestErrorsOfAllShapesAreRead(t *testing.T) {
	t.Parallel()
	for _, row := range errorShapes {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := readErrorBody([]byte(row.body)); got != row.want {
				t.Errorf("readErrorBody = %+v, want %+v", got, row.want)
			}
		})
	}
}

func TestAnErrorsTextHoldsNothingOfTheBodyButCodes(t *testing.T) {
	t.Parallel()
	for _, row := range errorShapes {
		if text := readErrorBody([]byte(row.body)).String(); strings.Contains(text, secret) {
			t.Errorf("%s: %s", row.name, text)
		}
		for _, path := range allPaths {
			for _, label := range []string{"application/json", "text/event-stream"} {
				body := row.body
				if label == "text/event-stream" {
					body = "data: " + body + "\n\n"
				}
				if end := endOf(t, answerTo(t, path, label, inPieces([]byte(body), 100), -1)); strings.Contains(end.err+end.failure, secret) {
					t.Errorf("%s, %s: %s", path, row.name, end.failure)
				}
			}
		}
	}
	const want = "code 429, type requests, inner code a"
	if got := (apiError{code: "429", kind: "requests", inner: "a"}).String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	const broken = "openai: the answer is an error: code 429, type requests"
	if got := (&AnswerError{text: "the answer is an error", Code: "429", Type: "requests"}).Error(); got != broken {
		t.Errorf("Error() = %q, want %q", got, broken)
	}
}

func TestQuotaCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"insufficient_quota": true, "credit_balance_exhausted": true,
		"billing_hard_limit_reached": true, "billing_not_active": true,
		"organization_spend_limit_exceeded": true, "project_spend_limit_exceeded": true,
		"organization_usage_limit_exceeded": true, "usage_limit_exceeded": true,
		"Insufficient_Quota": true,

		"rate_limit_exceeded": false, "context_length_exceeded": false, "429": false, "": false,
		"insufficient_quota_of_patience": false,
	} {
		for _, e := range []apiError{{code: code}, {kind: code}, {code: "429", inner: code}} {
			if got := e.isQuota(); got != want {
				t.Errorf("isQuota of %+v = %v", e, got)
			}
		}
	}
}

func TestAnErrorInA2xxIsWorthWhatItsStatusWouldBe(t *testing.T) {
	t.Parallel()
	const unknown = retry.ReasonStreamError
	callers := verdict{outcome: breaker.Ignored}
	quota := verdict{outcome: breaker.Ignored, quota: true}
	limited := verdict{reason: retry.ReasonRateLimited, outcome: breaker.Ignored, limited: true}
	failure := func(reason retry.Reason) verdict { return verdict{reason: reason, outcome: breaker.Failure} }
	for name, row := range map[string]struct {
		e    apiError
		want verdict
	}{
		"server_error":         {apiError{code: "server_error"}, failure(retry.ReasonServerError)},
		"a type alone":         {apiError{kind: "overloaded_error"}, failure(retry.ReasonOverloaded)},
		"in capitals":          {apiError{kind: "InternalServerError"}, failure(retry.ReasonServerError)},
		"the code is exacter":  {apiError{code: "rate_limit_exceeded", kind: "invalid_request_error"}, limited},
		"an unknown code":      {apiError{code: "e1234", kind: "timeout"}, failure(retry.ReasonTimeout)},
		"a status":             {apiError{code: "504"}, failure(retry.ReasonTimeout)},
		"a proxy's status":     {apiError{code: "522"}, failure(retry.ReasonConnection)},
		"429":                  {apiError{code: "429"}, limited},
		"a final status":       {apiError{code: "400", kind: "x"}, callers},
		"402":                  {apiError{code: "402"}, quota},
		"501":                  {apiError{code: "501"}, callers},
		"no status":            {apiError{code: "1302"}, verdict{reason: unknown, outcome: breaker.Ignored}},
		"content_filter":       {apiError{code: "content_filter"}, callers},
		"the inner code first": {apiError{code: "500", inner: "ResponsibleAIPolicyViolation"}, callers},
		"a wrong request":      {apiError{code: "x", kind: "invalid_request_error"}, callers},
		"by its beginning":     {apiError{code: "invalid_image_url"}, callers},
		"by its end":           {apiError{code: "misalignment_policy_violation"}, callers},
		"a quota":              {apiError{code: "rate_limit_exceeded", kind: "insufficient_quota"}, quota},
		"a quota, Zhipu's":     {apiError{code: "1113"}, quota},
		"unknown":              {apiError{code: "brand_new", kind: "brand_new_error"}, verdict{reason: unknown, outcome: breaker.Ignored}},
		"without codes":        {apiError{}, verdict{reason: unknown, outcome: breaker.Ignored}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := inBandVerdict(row.e, unknown); got != row.want {
				t.Errorf("it is worth %+v, want %+v", got, row.want)
			}
		})
	}
}

func TestTheTablesOfCodesAreInLowerCase(t *testing.T) {
	t.Parallel()
	for code := range codeStatuses {
		if code != strings.ToLower(code) || isQuotaCode(code) {
			t.Errorf("%q is never found", code)
		}
	}
	for code := range quotaCodes {
		if code != strings.ToLower(code) {
			t.Errorf("%q is never found", code)
		}
	}
	for code := range statusReasons {
		if retry.IsRetryableStatus(code) || code > 520 {
			continue
		}
		t.Errorf("%d is retryable", code)
	}
	for code := range 600 {
		if retry.IsRetryableStatus(code) && statusReasons[code] == "" {
			t.Errorf("%d %s is not retryable", code, http.StatusText(code))
		}
	}
}

// FuzzReadErrorBody compares with what encoding/json finds in the same shapes.
// Of an error that is cut off, no half of a code is believed.
func FuzzReadErrorBody(f *testing.F) {
	for i, row := range errorShapes {
		f.Add([]byte(row.body), i)
		f.Add([]byte(row.body), len(row.body)/2+i)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		before := bytes.Clone(data)
		e := readErrorBody(data)
		if !bytes.Equal(data, before) {
			t.Errorf("%q was changed to %q", before, data)
		}
		errorVerdict(429, e)
		inBandVerdict(e, retry.ReasonServerError)
		if text := e.String(); len(text) > 3*maxLabel+80 || strings.Trim(text, codeBytes+", ") != "" {
			t.Errorf("%q: String() = %q", data, text)
		}
		if !json.Valid(data) {
			return
		}
		if want := errorBodySlowly(data); e != want {
			t.Errorf("%q: found %+v, want %+v", data, e, want)
		}
		known := map[string]bool{"": true}
		allLabels(data, known)
		if part := readErrorBody(data[:(cut&0x7fffffff)%(len(data)+1)]); !known[part.code] || !known[part.kind] || !known[part.inner] {
			t.Errorf("%q: cut at %d it has %+v", data, cut, part)
		}
	})
}

const codeBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

// inOrder returns the members of a JSON object, nil if it is none.
func inOrder(data []byte) (keys []string, values []json.RawMessage) {
	d := json.NewDecoder(bytes.NewReader(data))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, nil
	}
	for d.More() {
		key, _ := d.Token()
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, nil
		}
		keys, values = append(keys, key.(string)), append(values, value)
	}
	return keys, values
}

func labelSlowly(value json.RawMessage) string {
	s := string(value)
	if value[0] == '"' {
		_ = json.Unmarshal(value, &s)
	}
	if s == "null" && value[0] != '"' || len(s) > maxLabel || strings.Trim(s, codeBytes) != "" {
		return ""
	}
	return s
}

// An errorSlowly is what JSON tells of an error.
type errorSlowly struct {
	outer, nested apiError
	marked        bool // it says that it is an error, but not which
	says          bool // its error object does
	inChoice      bool // a choice tells of one
}

func (e *errorSlowly) top(key string, value json.RawMessage) {
	switch {
	case key == "error" && value[0] == '{':
		e.nested, e.says = apiError{}, saysAnything(value)
		fields, said := inOrder(value)
		for i := range fields {
			e.nested.take(fields[i], said[i])
		}
	case key == "error":
		e.marked = e.marked || value[0] == '"' && string(value) != `""`
	case key == "object" || key == "type":
		e.marked = e.marked || string(value) == `"error"`
		e.outer.take(key, value)
	case key == "error_type":
		e.outer.kind = labelSlowly(value)
	default:
		e.outer.take(key, value)
	}
}

func (e *errorSlowly) isError() bool { return e.marked || e.says }

// fails reports whether the answer is the error. One beside content is none,
// unless it is a choice's.
func (e *errorSlowly) fails(besideContent bool) bool {
	return e.inChoice || e.isError() && !besideContent
}

func errorBodySlowly(data []byte) apiError {
	var e errorSlowly
	for _, element := range append(elements(data), data) {
		keys, values := inOrder(element)
		for i := range keys {
			e.top(keys[i], values[i])
		}
	}
	switch {
	case e.says:
		return e.nested
	case e.marked && e.outer.kind == "error":
		e.outer.kind = ""
	}
	return e.outer
}

// elements returns those of a JSON array, nil if it is none.
func elements(data json.RawMessage) (all []json.RawMessage) {
	if json.Unmarshal(data, &all) != nil {
		return nil
	}
	return all
}

func isContainerSlowly(value json.RawMessage) bool { return value[0] == '{' || value[0] == '[' }

// isFull reports whether a value is an object or array with something in it.
func isFull(value json.RawMessage) bool {
	_, values := inOrder(value)
	return len(values)+len(elements(value)) > 0
}

// saysSomething reports whether a value is more than null, false, 0 or "".
func saysSomething(value json.RawMessage) bool {
	n, err := strconv.ParseFloat(string(value), 64)
	return string(value) != "null" && string(value) != "false" && string(value) != `""` && (err != nil || n != 0)
}

// saysAnything reports whether an error object has a member that is not empty;
// an object in it has, if it has members.
func saysAnything(object json.RawMessage) bool {
	_, values := inOrder(object)
	for _, value := range values {
		if isFull(value) || !isContainerSlowly(value) && saysSomething(value) {
			return true
		}
	}
	return false
}

// take takes a member of an error, the last of each name.
func (e *apiError) take(key string, value json.RawMessage) {
	switch {
	case key == "code":
		e.code = labelSlowly(value)
	case key == "type", key == "status" && value[0] == '"' && e.kind == "":
		e.kind = labelSlowly(value)
	case key == "innererror":
		e.inner = ""
		fields, said := inOrder(value)
		for i := range fields {
			if fields[i] == "code" {
				e.inner = labelSlowly(said[i])
			}
		}
	}
}

// allLabels notes whatever in data could be a code.
func allLabels(data json.RawMessage, found map[string]bool) {
	var elements []json.RawMessage
	if json.Unmarshal(data, &elements) != nil {
		_, elements = inOrder(data)
	}
	found[labelSlowly(bytes.TrimSpace(data))] = true
	for _, e := range elements {
		allLabels(e, found)
	}
}
