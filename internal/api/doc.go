// Package api holds the list of all that the public packages export, in
// exported.txt. Its test compares the list with the sources, so that no change
// of the API goes unnoticed.
package api
