// Package accounts holds the customers' money: what a payment service does, in
// whatever pattern. Its functions work in a transaction that they are given.
//
// They do not ask whether they were called before. That each event comes to them
// once is the business of package consume.
package accounts
