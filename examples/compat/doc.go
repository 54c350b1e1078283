// Package compat holds tests alone: they put retrip below the clients that Go
// services really use, and let the provider go wrong.
package compat
