package openaitest

import (
	"fmt"
	"net/http"
)

// An apiError is an error of OpenAI's or Anthropic's.
type apiError struct {
	errType, code, message string
}

// body returns it as the body of a response, and as the data of an event.
func (e apiError) body(endpoint string) string {
	if endpoint == Messages {
		return `{"type":"error","error":{"type":` + quote(e.errType) + `,"message":` + quote(e.message) + `}}`
	}
	return `{"error":{"message":` + quote(e.message) + `,"type":` + quote(e.errType) + `,"param":null,"code":` + nullable(e.code) + `}}`
}

// event returns the event with which a stream of the endpoint reports the
// error: flat and named in a Responses stream, named in Anthropic's, else as in
// a body.
func (e apiError) event(endpoint string, number int) string {
	switch endpoint {
	case Responses:
		return Event("error", fmt.Sprintf(`{"type":"error","sequence_number":%d,"code":%s,"message":%s,"param":null}`,
			number, nullable(e.code), quote(e.message)))
	case Messages:
		return Event("error", e.body(endpoint))
	}
	return Event("", e.body(endpoint))
}

// nullable returns a string as JSON, or null if it is empty.
func nullable(s string) string {
	if s == "" {
		return "null"
	}
	return quote(s)
}

// invalid returns the error that says that a request was wrong.
func invalid(endpoint, code, message string) string {
	return apiError{"invalid_request_error", code, message}.body(endpoint)
}

// errorBody returns the error that usually comes with a status.
func errorBody(endpoint string, status int) string {
	errType, code := openAIError(status)
	if endpoint == Messages {
		errType = anthropicError(status)
	}
	message := http.StatusText(status)
	if message == "" {
		message = "Unknown"
	}
	return apiError{errType, code, message + " (scripted by openaitest)"}.body(endpoint)
}

// openAIError returns the type and the code that OpenAI sends with a status:
// https://platform.openai.com/docs/guides/error-codes.
func openAIError(status int) (errType, code string) {
	switch {
	case status == http.StatusUnauthorized:
		return "invalid_request_error", "invalid_api_key"
	case status == http.StatusNotFound:
		return "invalid_request_error", "model_not_found"
	case status == http.StatusTooManyRequests:
		return "requests", "rate_limit_exceeded"
	case status == http.StatusRequestTimeout:
		return "timeout", ""
	case status >= http.StatusInternalServerError:
		return "server_error", ""
	}
	return "invalid_request_error", ""
}

// anthropicError returns the type that Anthropic documents for a status:
// https://docs.anthropic.com/en/api/errors.
func anthropicError(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusNotFound:
		return "not_found_error"
	case status == http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status == http.StatusGatewayTimeout:
		return "timeout_error"
	case status == 529:
		return "overloaded_error"
	case status >= http.StatusInternalServerError:
		return "api_error"
	}
	return "invalid_request_error"
}
