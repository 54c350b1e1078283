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
	want       *apiError
}{
	{"OpenAI", `{"error":{"message":"sk-planted","type":"requests","param":null,"code":"rate_limit_exceeded"}}`, &apiError{code: "rate_limit_exceeded", kind: "requests"}},
	{"OpenAI, no code", `{"error":{"message":"sk-planted","type":"server_error","param":null,"code":null}}`, &apiError{kind: "server_error"}},
	{"OpenAI, a quota", `{"error":{"message":"sk-planted","type":"insufficient_quota","code":"project_spend_limit_exceeded"}}`, &apiError{code: "project_spend_limit_exceeded", kind: "insufficient_quota"}},
	{"Azure", `{"error":{"code":"429","message":"sk-planted"}}`, &apiError{code: "429"}},
	{"Azure, content filter", `{"error":{"message":"sk-planted","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{}}}}`, &apiError{code: "content_filter", inner: "ResponsibleAIPolicyViolation"}},
	{"OpenRouter", `{"error":{"code":429,"message":"sk-planted","metadata":{"raw":"sk-planted","provider_name":"X","code":"nested"}},"user_id":"u"}`, &apiError{code: "429"}},
	{"OpenRouter, in a stream", `{"id":"c","object":"chat.completion.chunk","error":{"code":"server_error","message":"sk-planted"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}`, &apiError{code: "server_error"}},
	{"vLLM", `{"error":{"message":"sk-planted","type":"BadRequestError","param":null,"code":400}}`, &apiError{code: "400", kind: "BadRequestError"}},
	{"vLLM before 0.10.1", `{"object":"error","message":"sk-planted","type":"BadRequestError","param":null,"code":400}`, &apiError{code: "400", kind: "BadRequestError"}},
	{"Ollama", `{"error":"sk-planted"}`, &apiError{}},
	{"TGI", `{"error":"sk-planted","error_type":"overloaded"}`, &apiError{kind: "overloaded"}},
	{"Responses, event", `{"type":"error","sequence_number":1,"code":"server_error","message":"sk-planted","param":null}`, &apiError{code: "server_error"}},
	{"Responses, event of the other kind", `{"type":"error","error":{"type":"tokens","code":"rate_limit_exceeded","message":"sk-planted"}}`, &apiError{code: "rate_limit_exceeded", kind: "tokens"}},
	{"Anthropic", `{"type":"error","error":{"type":"overloaded_error","message":"sk-planted"}}`, &apiError{kind: "overloaded_error"}},
	{"Gemini", `[{"error":{"code":429,"message":"sk-planted","status":"RESOURCE_EXHAUSTED"}}]`, &apiError{code: "429", kind: "RESOURCE_EXHAUSTED"}},
	{"white space", " \r\n\t{ \"error\" : { \"code\" : \"x\" } }\n", &apiError{code: "x"}},
	{"escaped", `{"\u0065rror":{"c\u006fde":"insufficient\u005fquota"}}`, &apiError{code: "insufficient_quota"}},
	{"the last of several", `{"error":{"code":"a"},"error":{"code":"b"}}`, &apiError{code: "b"}},

	{"a sentence is no code", `{"error":{"code":"key sk-planted is wrong","type":"sk-planted@example"}}`, &apiError{}},
	{"nor is a very long one", `{"error":{"code":"` + strings.Repeat("x", 65) + `"}}`, &apiError{}},
	{"nor an object", `{"error":{"code":{"sk-planted":1},"type":["sk-planted"]}}`, &apiError{}},

	{"cut in the message", `{"error":{"code":"insufficient_quota","type":"t","message":"sk-plan`, &apiError{code: "insufficient_quota", kind: "t"}},
	{"cut in the code", `{"error":{"type":"t","code":"insufficient_qu`, &apiError{kind: "t"}},
	{"cut in a number", `{"error":{"type":"t","code":42`, &apiError{kind: "t"}},
	{"cut in a nested code", `{"error":{"innererror":{"code":"a","x":[1`, &apiError{inner: "a"}},
	{"cut in a key", `{"error":{"code":"a","ty`, &apiError{code: "a"}},

	{"no error: null", `{"id":"resp_1","status":"completed","error":null,"code":"x"}`, nil},
	{"no error: an answer", `{"id":"c","object":"chat.completion","choices":[{"message":{"content":"{\"error\":1}"}}]}`, nil},
	{"no error: an event", `{"type":"response.created","response":{"id":"r","error":null}}`, nil},
	{"no error: a list", `[1,2]`, nil},
	{"no error: text", `upstream connect error`, nil},
	{"no error: HTML", `<html>{"error":{}}</html>`, nil},
	{"nothing", ``, nil},
	{"half of nothing", `{"error":`, nil},
}

// readError returns the error that data tells of, nil if it tells of none.
func readError(data []byte) *apiError {
	var r errorReader
	walkAll(data, &r)
	if e, ok := r.found(); ok {
		return &e
	}
	return nil
}

func TestErrorsOfAllShapesAreRead(t *testing.T) {
	t.Parallel()
	for _, row := range errorShapes {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := readError([]byte(row.body))
			if (got == nil) != (row.want == nil) || got != nil && *got != *row.want {
				t.Errorf("read %+v, want %+v", got, row.want)
			}
		})
	}
}

// Zhipu and others put the code of an error status at the top level.
func TestTheCodesOfAnErrorStatusMayStandAtTheTopLevel(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]apiError{
		`{"code":"insufficient_quota","message":"sk-planted"}`: {code: "insufficient_quota"},
		`{"error":{"code":"1113","message":"sk-planted"}}`:     {code: "1113"},
		`{"error":{},"code":"x"}`:                              {code: "x"},
		`{"error":{"type":"x","status":"UNAVAILABLE"}}`:        {kind: "x"},
		`{"error":{"status":"UNAVAILABLE","type":"x"}}`:        {kind: "x"},
		`{"error":{"code":503,"status":"UNAVAILABLE"}}`:        {code: "503", kind: "UNAVAILABLE"},
		`sk-planted`: {},
	} {
		if got := readErrorBody([]byte(body)); got != want {
			t.Errorf("%s: read %+v, want %+v", body, got, want)
		}
	}
}

// Gateways add an empty error to every success.
func TestAnEmptyErrorSaysNothing(t *testing.T) {
	t.Parallel()
	for _, value := range []string{`null`, `""`, `{}`, `{"message":"","type":"","param":"","code":null}`, `{"code":0,"message":""}`, `{"code":false,"details":{}}`, `5`, `true`, `[]`} {
		if got := readError([]byte(`{"error":` + value + `}`)); got != nil {
			t.Errorf("%s says %+v", value, got)
		}
	}
	for _, value := range []string{`"x"`, `{"message":"x"}`, `{"code":1}`, `{"details":{"a":null}}`, `{"details":[0]}`} {
		if got := readError([]byte(`{"error":` + value + `}`)); got == nil {
			t.Errorf("%s says nothing", value)
		}
	}
}

func TestAnErrorsTextHoldsNothingOfTheBodyButCodes(t *testing.T) {
	t.Parallel()
	for _, row := range errorShapes {
		if text := readErrorBody([]byte(row.body)).String(); strings.Contains(text, secret) {
			t.Errorf("%s: %s", row.name, text)
		}
	}
	const want = "code 429, type requests, inner code a"
	if got := (apiError{code: "429", kind: "requests", inner: "a"}).String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
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
		"insufficient_quota_of_patience": false, "1113": true,
	} {
		for _, e := range []apiError{{code: code}, {kind: code}, {code: "429", inner: code}} {
			if got := e.isQuota(); got != want {
				t.Errorf("isQuota of %+v = %v", e, got)
			}
		}
	}
}

func TestWhatErrorsInAnswersAreWorth(t *testing.T) {
	t.Parallel()
	failure := func(r retry.Reason) verdict { return verdict{reason: r, outcome: breaker.Failure} }
	callers := verdict{outcome: breaker.Ignored}
	limited := verdict{reason: retry.ReasonRateLimited, outcome: breaker.Ignored, limited: true}
	unknown := verdict{reason: retry.ReasonStreamError, outcome: breaker.Ignored}
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
		"501":                  {apiError{code: "501"}, callers},
		"a final status":       {apiError{code: "400", kind: "x"}, callers},
		"no status":            {apiError{code: "1302"}, unknown},
		"content_filter":       {apiError{code: "content_filter"}, callers},
		"the inner code first": {apiError{code: "500", inner: "ResponsibleAIPolicyViolation"}, callers},
		"context length":       {apiError{code: "400", kind: "exceed_context_size_error"}, callers},
		"a wrong request":      {apiError{code: "x", kind: "invalid_request_error"}, callers},
		"by its beginning":     {apiError{code: "invalid_image_url"}, callers},
		"by its end":           {apiError{code: "misalignment_policy_violation"}, callers},
		"a quota":              {apiError{code: "rate_limit_exceeded", kind: "insufficient_quota"}, verdict{outcome: breaker.Ignored, quota: true}},
		"unknown":              {apiError{code: "brand_new", kind: "brand_new_error"}, unknown},
		"without codes":        {apiError{}, unknown},
	} {
		if got := inBandVerdict(row.e, retry.ReasonStreamError); got != row.want {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
}

// An error inside a 2xx is worth what the same error is worth as a status.
func TestOneVerdictForStatusAndInBandErrors(t *testing.T) {
	t.Parallel()
	for code := 400; code < 600; code++ {
		got := inBandVerdict(apiError{code: strconv.Itoa(code)}, retry.ReasonStreamError)
		if want := errorVerdict(code, apiError{}); got != want {
			t.Errorf("%d: in-band %+v, as a status %+v", code, got, want)
		}
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
	for code := range 600 {
		if retry.IsRetryableStatus(code) && statusReasons[code] == "" {
			t.Errorf("%d %s is not retryable", code, http.StatusText(code))
		}
	}
}

// FuzzErrorReader compares with what encoding/json finds in the same shapes. Of
// an error that is cut off, no half of a code is believed.
func FuzzErrorReader(f *testing.F) {
	for i, row := range errorShapes {
		f.Add([]byte(row.body), i)
		f.Add([]byte(row.body), len(row.body)/2+i)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		before := bytes.Clone(data)
		e := readError(data)
		if !bytes.Equal(data, before) {
			t.Errorf("%q was changed to %q", before, data)
		}
		if text := readErrorBody(data).String(); len(text) > 3*maxLabel+80 || strings.Trim(text, codeBytes+", ") != "" {
			t.Errorf("%q: String() = %q", data, text)
		}
		if !json.Valid(data) || len(data) > 4<<10 {
			return
		}
		if want := apiErrorSlowly(data); (e == nil) != (want == nil) || e != nil && *e != *want {
			t.Errorf("%q: found %+v, want %+v", data, e, want)
		}
		if part := readError(data[:(cut&0x7fffffff)%(len(data)+1)]); part != nil {
			known := map[string]bool{"": true}
			allLabels(data, known)
			if !known[part.code] || !known[part.kind] || !known[part.inner] {
				t.Errorf("%q: cut at %d it has %+v", data, cut, part)
			}
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

// saysSomething reports whether a value is not nothing: null, false, 0, "" or a
// container without an element.
func saysSomething(value json.RawMessage) bool {
	var v any
	if json.Unmarshal(value, &v) != nil {
		return strings.Trim(string(value), "-0.") != "" // a number of any size
	}
	switch v := v.(type) {
	case map[string]any:
		keys, _ := inOrder(value)
		return len(keys) > 0
	case []any:
		return len(v) > 0
	case string:
		return string(value) != `""`
	case float64:
		return strings.Trim(string(value), "-0.") != ""
	case bool:
		return v
	}
	return false
}

// apiErrorSlowly is readError by encoding/json.
func apiErrorSlowly(data []byte) *apiError {
	var elements []json.RawMessage
	if json.Unmarshal(data, &elements) != nil {
		elements = []json.RawMessage{data}
	}
	var outer apiError
	var nested *apiError
	says, isError := false, false
	for _, object := range elements {
		keys, values := inOrder(object)
		for i, value := range values {
			switch key := keys[i]; {
			case key == "error" && value[0] == '{':
				nested, says = new(apiError), false
				fields, said := inOrder(value)
				for i := range fields {
					takeSlowly(nested, fields[i], said[i])
					says = says || saysSomething(said[i])
				}
			case key == "error":
				isError = isError || value[0] == '"' && string(value) != `""`
			case key == "object" || key == "type":
				isError = isError || string(value) == `"error"`
				takeSlowly(&outer, key, value)
			case key == "error_type":
				outer.kind = labelSlowly(value)
			default:
				takeSlowly(&outer, key, value)
			}
		}
	}
	switch {
	case says:
		return nested
	case isError:
		if outer.kind == "error" {
			outer.kind = ""
		}
		outer.inner = ""
		return &outer
	}
	return nil
}

// takeSlowly takes a member of an error, the last of each name.
func takeSlowly(e *apiError, key string, value json.RawMessage) {
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
