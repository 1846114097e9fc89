// Servers of this process let an idle connection go after half a second, and not after five.
const http = require("node:http");
const createServer = http.createServer;
http.createServer = (...given) => Object.assign(createServer(...given), { keepAliveTimeout: 500 });
