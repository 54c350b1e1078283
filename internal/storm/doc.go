// Package storm simulates retry storms and small incidents, in virtual time and
// with the real chain. Its tests hold what the README beside them shows as
// tables and a picture.
package storm
