// Package message holds the universal message: what every messenger's traffic
// is turned into, and the one closed set of reasons for which a send fails.
//
// Everything here is pure: values and their rules, no I/O, no clock. A platform
// package translates between its own JSON and these types; everybody else
// (edge, workers, chat hub, loader, desk) knows these types only.
package message
