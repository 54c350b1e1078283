package openaitest

import (
	"fmt"
	"net/http"
)

// An apiError is an OpenAI error.
type apiError struct {
	errType, code, message string
}

// body returns it as the body of a response, and as the data of an event.
func (e apiError) body() string {
	return `{"error":{"message":` + quote(e.message) + `,"type":` + quote(e.errType) + `,"param":null,"code":` + nullable(e.code) + `}}`
}

// event returns the event with which a stream of the endpoint reports the
// error: flat and named in a Responses stream, else as in a body.
func (e apiError) event(endpoint string, number int) string {
	if endpoint == Responses {
		return Event("error", fmt.Sprintf(`{"type":"error","sequence_number":%d,"code":%s,"message":%s,"param":null}`,
			number, nullable(e.code), quote(e.message)))
	}
	return Event("", e.body())
}

func nullable(s string) string {
	if s == "" {
		return "null"
	}
	return quote(s)
}

func invalid(code, message string) string {
	return apiError{"invalid_request_error", code, message}.body()
}

// errorBody returns the error that usually comes with a status.
func errorBody(status int) string {
	errType, code := "invalid_request_error", ""
	switch {
	case status == http.StatusUnauthorized:
		code = "invalid_api_key"
	case status == http.StatusNotFound:
		code = "model_not_found"
	case status == http.StatusTooManyRequests:
		errType, code = "requests", "rate_limit_exceeded"
	case status == http.StatusRequestTimeout:
		errType = "timeout"
	case status >= 500:
		errType = "server_error"
	}
	message := http.StatusText(status)
	if message == "" {
		message = "Unknown"
	}
	return apiError{errType, code, message + " (scripted by openaitest)"}.body()
}
