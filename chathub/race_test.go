//go:build race

package chathub_test

const raceEnabled = true
