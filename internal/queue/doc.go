// Package queue holds the values that pass between the stages of the pipeline
// and the database, and the kinds of River jobs: raw updates on their way in,
// claims and outcomes on the way out. Values only; db stores them, edge and
// workers act on them.
package queue
