// Package channeltest is the suite that every platform package must pass. A
// platform's test describes the platform as a Case and calls Run; its fuzz
// target calls FuzzDecode.
//
// Golden files live in the package's testdata folder and are written by
// "go test -update":
//
//	<case>.in.json    a callback's body, as the platform's documents show it (made by hand)
//	<case>.want.json  what Split and Decode make of it
//	<case>.send.json  the requests that sending Send <case> makes, and the receipts
//	<case>.call.json  the requests that Call <case> makes, and its result
//
// Beyond the golden files every input is mutilated (unknown fields added, bytes
// cut off, fields removed or of the wrong type): nothing may panic, and no
// update may vanish without an error. Every send is tried against a platform
// that is away, that hangs, that cuts the connection and that talks nonsense.
// Settings marked secret must not show up in any error or health report, and no
// request may go to another host.
package channeltest
