package openai

// Delete this file when apierror.go lands.
type apiError struct{ code string }

func (e *apiError) Error() string { return e.code }

func parseAPIError([]byte) *apiError { return nil }
