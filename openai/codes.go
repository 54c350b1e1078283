package openai

import (
	"net/http"
	"strconv"
	"strings"
)

// quotaCodes say that no repetition helps before the account is paid for, its limit is
// raised, or a month is over. They come with statuses that are retried otherwise, mostly a 429.
// OpenAI documents its own at https://developers.openai.com/api/docs/guides/error-codes:
// error.code is the exact one, and error.type may be insufficient_quota beside any of
// them, which is why both are looked up.
var quotaCodes = map[string]bool{
	"insufficient_quota":         true,
	"credit_balance_exhausted":   true,
	"billing_hard_limit_reached": true,
	"billing_not_active":         true,
	"1113":                       true, // Zhipu: the account is in arrears
}

// quotaSuffixes match what OpenAI names after the owner of a limit: organization_…,
// project_…, and whatever owner is added later.
var quotaSuffixes = []string{"spend_limit_exceeded", "usage_limit_exceeded"}

// isQuotaCode reports whether a code says that an account is used up. Case is ignored,
// because providers that copy a code don't agree on its case. A code that is not known
// counts as none: a call that is repeated in vain costs less than one that is given up.
func isQuotaCode(code string) bool {
	code = strings.ToLower(code)
	if quotaCodes[code] {
		return true
	}
	for _, suffix := range quotaSuffixes {
		if strings.HasSuffix(code, suffix) {
			return true
		}
	}
	return false
}

// codeStatuses are the statuses that the codes of errors stand for, by code in lower
// case. An error inside a 2xx has no status of its own. It is worth what the same error
// would have been worth as a status, so that one table of statuses decides both.
//
// The name behind a code is the provider or server that sends it. A code without one is
// common to several. Codes are looked up in lower case, and a code that is missing here is
// one of unknown worth: see inBandVerdict.
var codeStatuses = map[string]int{
	// The provider's fault: retried, and a failure to the breaker.
	"server_error":          http.StatusInternalServerError, // OpenAI
	"internal_error":        http.StatusInternalServerError,
	"internal_server_error": http.StatusInternalServerError,
	"internalservererror":   http.StatusInternalServerError, // vLLM, Azure
	"internal":              http.StatusInternalServerError, // Gemini
	"api_error":             http.StatusInternalServerError, // Anthropic, Mistral

	// The provider has too much to do: retried, and a failure to the breaker.
	"overloaded_error":          http.StatusServiceUnavailable, // Anthropic
	"overloaded":                http.StatusServiceUnavailable, // TGI
	"server_overloaded":         http.StatusServiceUnavailable,
	"server_is_overloaded":      http.StatusServiceUnavailable, // OpenAI
	"engine_overloaded":         http.StatusServiceUnavailable,
	"engine_overloaded_error":   http.StatusServiceUnavailable, // Moonshot
	"provider_overloaded":       http.StatusServiceUnavailable, // OpenRouter
	"service_unavailable":       http.StatusServiceUnavailable,
	"service_unavailable_error": http.StatusServiceUnavailable,
	"serviceunavailable":        http.StatusServiceUnavailable,
	"serviceunavailableerror":   http.StatusServiceUnavailable,
	"unavailable":               http.StatusServiceUnavailable, // Gemini, llama.cpp
	"unavailable_error":         http.StatusServiceUnavailable, // llama.cpp
	"flex_unavailable":          http.StatusServiceUnavailable,
	"resource_unavailable":      http.StatusServiceUnavailable,
	"nocapacity":                http.StatusServiceUnavailable, // Azure

	// A rate limit: retried and paced. The breaker ignores it.
	"rate_limit_exceeded": http.StatusTooManyRequests, // OpenAI
	"rate_limit_error":    http.StatusTooManyRequests, // Anthropic
	"slow_down":           http.StatusTooManyRequests, // OpenAI
	"requests":            http.StatusTooManyRequests, // OpenAI's type names what the limit is of
	"tokens":              http.StatusTooManyRequests,
	"rate_limited":        http.StatusTooManyRequests,
	"ratelimitreached":    http.StatusTooManyRequests, // Azure
	"ratelimiterror":      http.StatusTooManyRequests,
	"too_many_requests":   http.StatusTooManyRequests,
	"toomanyrequests":     http.StatusTooManyRequests,
	"resource_exhausted":  http.StatusTooManyRequests, // Gemini

	// Something behind the provider's entrance took too long.
	"timeout":              http.StatusGatewayTimeout,
	"timeout_error":        http.StatusGatewayTimeout, // Anthropic
	"timeouterror":         http.StatusGatewayTimeout,
	"request_timeout":      http.StatusGatewayTimeout,
	"requesttimeout":       http.StatusGatewayTimeout,
	"gateway_timeout":      http.StatusGatewayTimeout,
	"gatewaytimeout":       http.StatusGatewayTimeout, // vLLM
	"deadline_exceeded":    http.StatusGatewayTimeout, // Gemini
	"vector_store_timeout": http.StatusGatewayTimeout, // OpenAI's Responses API

	// The caller's mistake or account: it would end the same way again, and says
	// nothing of the provider's health.
	"content_filter":              http.StatusBadRequest,
	"content_policy_violation":    http.StatusBadRequest,
	"moderation_blocked":          http.StatusBadRequest,
	"bio_policy":                  http.StatusBadRequest,
	"cyber_policy":                http.StatusBadRequest,
	"data_residency_mismatch":     http.StatusBadRequest,
	"responsibleaipolicy":         http.StatusBadRequest,
	"context_length_exceeded":     http.StatusBadRequest,
	"context_window_exceeded":     http.StatusBadRequest,
	"exceed_context_size_error":   http.StatusBadRequest, // llama.cpp
	"string_above_max_length":     http.StatusBadRequest,
	"array_above_max_length":      http.StatusBadRequest,
	"integer_above_max_value":     http.StatusBadRequest,
	"max_tokens_exceeded":         http.StatusBadRequest, // OpenRouter
	"token_limit_exceeded":        http.StatusBadRequest,
	"string_too_long":             http.StatusBadRequest,
	"image_too_large":             http.StatusBadRequest,
	"image_too_small":             http.StatusBadRequest,
	"image_parse_error":           http.StatusBadRequest,
	"image_file_too_large":        http.StatusBadRequest,
	"image_file_not_found":        http.StatusBadRequest,
	"empty_image_file":            http.StatusBadRequest,
	"failed_to_download_image":    http.StatusBadRequest,
	"badrequesterror":             http.StatusBadRequest, // vLLM
	"badrequest":                  http.StatusBadRequest,
	"bad_request":                 http.StatusBadRequest,
	"validation":                  http.StatusBadRequest, // TGI
	"validation_error":            http.StatusBadRequest,
	"unknown_parameter":           http.StatusBadRequest,
	"failed_precondition":         http.StatusBadRequest,
	"request_too_large":           http.StatusRequestEntityTooLarge, // Anthropic
	"authentication_error":        http.StatusUnauthorized,
	"authenticationerror":         http.StatusUnauthorized,
	"unauthenticated":             http.StatusUnauthorized,
	"unauthorized":                http.StatusUnauthorized,
	"billing_error":               http.StatusPaymentRequired, // Anthropic
	"insufficient_balance":        http.StatusPaymentRequired,
	"permission_error":            http.StatusForbidden,
	"permission_denied":           http.StatusForbidden,
	"insufficient_permissions":    http.StatusForbidden,
	"account_deactivated":         http.StatusForbidden,
	"not_found_error":             http.StatusNotFound,
	"notfounderror":               http.StatusNotFound,
	"not_found":                   http.StatusNotFound,
	"model_not_found":             http.StatusNotFound,
	"deploymentnotfound":          http.StatusNotFound, // Azure
	"previous_response_not_found": http.StatusNotFound,
}

// callersMistakes are how the codes of wrong requests begin or end. Providers invent new
// codes of these shapes for every parameter, so no list of them could be complete.
var callersMistakes = struct{ prefixes, suffixes []string }{
	prefixes: []string{"invalid_", "invalid-", "unsupported_", "missing_"},
	suffixes: []string{"_policy_violation", "policyviolation", "_unsupported", "_not_supported"},
}

// statusOfCode returns the status that a code stands for, 0 if it is not known. OpenRouter,
// vLLM and others send the status itself as the code. The exact codes go before the
// shapes, since some of them have such a shape and stand for another status.
func statusOfCode(code string) int {
	if status, err := strconv.Atoi(code); err == nil {
		if status >= 400 && status < 600 {
			return status
		}
		return 0
	}
	code = strings.ToLower(code)
	if status := codeStatuses[code]; status != 0 {
		return status
	}
	for _, prefix := range callersMistakes.prefixes {
		if strings.HasPrefix(code, prefix) {
			return http.StatusBadRequest
		}
	}
	for _, suffix := range callersMistakes.suffixes {
		if strings.HasSuffix(code, suffix) {
			return http.StatusBadRequest
		}
	}
	return 0
}
