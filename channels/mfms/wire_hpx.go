package mfms

import "encoding/xml"

// The names of the XML connector (HPX). There is no logic here. The elements, the
// roots and the authorisation are confirmed by working clients; what is assumed is
// marked so.

// pathService ends the connector's address, https://gateNN.mfms.ru:PORT/CLIENT/connectorN/service.
const pathService = "/service"

// xmlType is the Content-Type that clients send.
const xmlType = "text/xml; charset=utf-8"

// The roots of requests and answers. A callback has the root of the answer on
// being asked.
const (
	rootSend  = "consumeInstantMessageRequest"
	rootTaken = "consumeInstantMessageResponse"
	rootAsk   = "provideInstantMessageDlvStatusRequest"
	rootTold  = "provideInstantMessageDlvStatusResponse"
	element   = "instantMessage"
)

const (
	hpxMessenger = "whatsapp"
	// maxAsked is how many messages one request may ask about (assumed).
	maxAsked = 100
	// noProvider is an id that no message has (assumed), to try the login with.
	noProvider = "1"
)

type hpxRequest struct {
	XMLName  xml.Name
	Login    string       `xml:"header>auth>login"`
	Password string       `xml:"header>auth>password"`
	Messages []hpxMessage `xml:"payload>instantMessageList>instantMessage"`
}

// hpxMessage is a message to send, or with ProviderID alone one that is asked about.
type hpxMessage struct {
	ClientID        string      `xml:"clientId,attr,omitempty"` // 32 characters; whether more are allowed is unconfirmed
	ProviderID      string      `xml:"providerId,attr,omitempty"`
	Address         string      `xml:"address,omitempty"`
	Subject         string      `xml:"subject,omitempty"`
	Priority        string      `xml:"priority,omitempty"` // low, normal, high or realtime
	ValiditySeconds int         `xml:"validityPeriodSeconds,omitempty"`
	Comment         string      `xml:"comment,omitempty"`
	Messenger       string      `xml:"instantMessageType,omitempty"`
	ContentType     string      `xml:"contentType,omitempty"`
	Content         *hpxContent `xml:"content"`
}

type hpxContent struct {
	Text string `xml:"text"`
}

// hpxAnswer is the answer to both requests.
type hpxAnswer struct {
	XMLName  xml.Name
	Code     string     `xml:"payload>code"`
	Messages []hpxState `xml:"payload>instantMessageList>instantMessage"`
}

// hpxState is what an answer or a callback says of one message.
type hpxState struct {
	ClientID   string `xml:"clientId,attr"`
	ProviderID string `xml:"providerId,attr"`
	Code       string `xml:"code"`
	Status     string `xml:"instantMessageDlvStatus>dlvStatus"`
	At         string `xml:"instantMessageDlvStatus>dlvStatusAt"` // Moscow's time without a zone (the zone is assumed)
	Error      string `xml:"instantMessageDlvStatus>dlvError"`
}
