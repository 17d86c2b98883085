package chathub

import "reflect"

// For the test that holds the code against its public description.
var (
	ErrorNames   = errorNames
	CloseReasons = closeReasons
	// Params are the parameters by method.
	Params = map[string]reflect.Type{
		"hello":           reflect.TypeFor[helloParams](),
		"presence.set":    reflect.TypeFor[presenceParams](),
		"chat.list":       reflect.TypeFor[listParams](),
		"chat.accept":     reflect.TypeFor[chatParams](),
		"chat.decline":    reflect.TypeFor[chatParams](),
		"chat.skip":       reflect.TypeFor[chatParams](),
		"chat.close":      reflect.TypeFor[chatParams](),
		"chat.transfer":   reflect.TypeFor[transferParams](),
		"chat.start":      reflect.TypeFor[startParams](),
		"chat.read":       reflect.TypeFor[readParams](),
		"chat.typing":     reflect.TypeFor[chatParams](),
		"message.send":    reflect.TypeFor[sendParams](),
		"message.edit":    reflect.TypeFor[editParams](),
		"message.delete":  reflect.TypeFor[deleteParams](),
		"message.forward": reflect.TypeFor[forwardParams](),
	}
	// Shapes are what results and events are made of, by schema.
	Shapes = map[string]reflect.Type{
		"HelloResult":   reflect.TypeFor[helloResult](),
		"ListResult":    reflect.TypeFor[listResult](),
		"ChatResult":    reflect.TypeFor[chatResult](),
		"MessageResult": reflect.TypeFor[messageResult](),
		"Presence":      reflect.TypeFor[presence](),
		"Event":         reflect.TypeFor[eventParams](),
	}
)
