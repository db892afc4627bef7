//! Read and write the interest list of an epoll, item by item.
