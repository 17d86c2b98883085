// Package campaigns sends one thing to many: what a campaign is and how it is
// checked (definition.go, template.go), how its recipients come in (table.go,
// phones.go, recipients.go), and the REST API around it (rest.go).
//
// A campaign's definition does not change once it is made, and a recipient's
// variables don't change once they are imported. What a recipient gets is a pure
// function of the two (Program.Content), so a start freezes the content of a
// million recipients without touching one of them.
package campaigns
