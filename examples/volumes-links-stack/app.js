// A web application that shows what it reads from the redis host `db`. NAME and PORT say who it is.
'use strict';
const http = require('http');
const net = require('net');

// The bulk string of a RESP answer: null while it is not whole.
function bulk(answer) {
  const end = answer.indexOf('\r\n');
  if (end < 0) return null;
  if (answer[0] !== '$') return { error: answer.slice(0, end) };
  const length = Number(answer.slice(1, end));
  if (length < 0) return { value: '(nothing)' };
  const value = answer.slice(end + 2, end + 2 + length);
  return value.length === length ? { value } : null;
}

function get(key, done) {
  const socket = net.connect(6379, 'db');
  let answer = '';
  const finish = (error, value) => {
    socket.destroy();
    done(error, value);
    done = () => {};
  };
  socket.setTimeout(2000, () => finish('redis does not answer'));
  socket.on('error', (error) => finish(error.message));
  socket.on('end', () => finish('redis hung up'));
  socket.on('data', (data) => {
    answer += data;
    const found = bulk(answer);
    if (found) finish(found.error, found.value);
  });
  socket.write(`*2\r\n$3\r\nGET\r\n$${key.length}\r\n${key}\r\n`);
}

http.createServer((request, response) => {
  response.setHeader('X-Application', process.env.NAME);
  if (request.url === '/string') return response.end('koa2 string');
  if (request.url === '/json') {
    response.setHeader('Content-Type', 'application/json');
    return response.end(JSON.stringify({ title: 'koa2 json' }));
  }
  get('master', (error, value) => {
    response.statusCode = error ? 502 : 200;
    response.end(error ? `${error}\n` : `<h1>${value}</h1>\n`);
  });
}).listen(Number(process.env.PORT), () => console.log(`${process.env.NAME} listens`));
