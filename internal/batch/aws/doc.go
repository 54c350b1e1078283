// Package aws has the adaptive retry mode of the AWS SDK keep to a rate limit below
// our chain, for the table in internal/batch. It is a module of its own, so that
// the library needs no SDK.
package aws
