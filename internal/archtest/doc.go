// Package archtest holds no code, only tests of what no single package can
// test: who may import whom, that the container set is complete and closed, that
// the proxy sends every path to the role that serves it, and that the documents
// name settings, metrics and tests that exist.
package archtest
