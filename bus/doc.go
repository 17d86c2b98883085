// Package bus carries hints between processes and decides which of them leads.
package bus
